"""Results for other programs and pages: a page in Markdown, a row per run and a row per cell in CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from byzax.experiments.gathering import Results, time_varies
from byzax.experiments.overall import overall, overall_rows
from byzax.experiments.settings import shared_settings
from byzax.experiments.tables import early_stop_lines, problem_lines, shared_settings_line, tables, text_rows, time_rows

CELLS = ("mean", "std", "low", "high", "count", "of", "interval_low", "interval_high", "best")


def markdown(results: Results, plots: Sequence[Path]) -> str:
    """The page of a study: tables, with the best of each block in bold, failures, and plots.

    Args:
        results: The results.
        plots: Paths of the plots.

    Returns:
        The page in Markdown.
    """
    frame = results.frame
    lines = [f"# {_escaped(results.name)}"]
    if subtitle := shared_settings_line(results):
        lines += ["", f"{_escaped(subtitle)}."]
    for table in tables(results):
        headings, rows = text_rows(table)
        for row, best in zip(rows, table.best, strict=True):
            keys = len(table.keys)
            row[keys:] = [f"**{text}**" if bold else text for text, bold in zip(row[keys:], best, strict=True)]
        title = table.title.removeprefix(f"{results.name}: ")
        lines += [
            "",
            f"## {_escaped(title[0].upper() + title[1:])}",
            "",
            *_table(headings, rows),
            "",
            f"{table.caption}.",
        ]
    if found := overall(results):
        lines += ["", "## Rules over all settings", "", *_table(*overall_rows(found)), "", f"{found.caption}."]
    if time_varies(frame, results.curves):
        lines += ["", "## How the time was used", "", *_table(*time_rows(frame)), "", "Means over the runs."]
    for heading, entries in {
        "Not completed, degraded or diverged": problem_lines(results),
        "Damaged, and in no table": results.damaged,
        "Ended before the last update": early_stop_lines(frame),
        "Combinations that cannot be": results.skipped,
    }.items():
        if entries:
            lines += ["", f"{heading}:", "", *[f"- {_escaped(line)}" for line in entries]]
    for plot in plots:
        lines += ["", f"![{plot.stem.replace('_', ' ').replace('-', ' ')}]({plot.name})"]
    return "\n".join(lines) + "\n"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [
        f"| {' | '.join(map(_escaped, each))} |" if i != 1 else f"|{'---|' * len(each)}" for i, each in enumerate(lines)
    ]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def runs_csv(results: Results) -> str:
    """The table of all runs.

    Args:
        results: The results.

    Returns:
        CSV, one row per run: its last measurements, and each setting in a column of its own.
    """
    frame = results.frame.astype({"classes": "Int64", "step": "Int64"})
    for key in dict.fromkeys(key for record in results.records.values() for key in record.summary.settings):
        if key not in frame:
            frame[key] = [results.records[run].summary.settings.get(key, "") for run in frame["run"]]
    return frame.to_csv(index=False)


def cells_csv(results: Results) -> str:
    """The table of all cells.

    Args:
        results: The results.

    Returns:
        CSV, one row per table, row and attack: mean, deviation, range, counts, and the shared settings.
    """
    all_tables = tables(results)
    shared = shared_settings([record.summary.settings for record in results.records.values()])
    keys = list(dict.fromkeys(key for each in all_tables for key in each.keys))
    settings = [key for key in shared if key not in keys and key != "attack"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["study", "table", *keys, "attack", *CELLS, *settings])
    for each in all_tables:
        for name, cells, best in zip(each.names, each.cells, each.best, strict=True):
            chosen: dict[str, Any] = dict(zip(each.keys, name, strict=True))
            for attack, cell, bold in zip(each.columns, cells, best, strict=True):
                of_cell = (cell.mean, cell.std, cell.low, cell.high, cell.counted, cell.of, *cell.interval)
                numbers = ["" if value != value else value for value in of_cell]
                begin = [results.name, each.words, *(chosen.get(key, "") for key in keys), attack]
                writer.writerow([*begin, *numbers, int(bold), *(shared[key] for key in settings)])
    return text.getvalue()
