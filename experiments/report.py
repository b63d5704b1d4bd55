"""The results of a study, or of several joined: tables on a terminal, summary files and plots."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from byzax.experiments import latex, outputs, overall, pages, plots, tables
from byzax.experiments.gathering import Results, gather, time_varies
from byzax.experiments.scores import SUCCESS
from byzax.experiments.strict_yaml import read_mapping
from byzax.experiments.study_files import read_skipped, skipped_lines
from byzax.simulator.config.executors import ReportField
from byzax.simulator.mistakes import ScenarioError


def read(folders: Sequence[Path], name: str | None = None, how: ReportField | None = None) -> Results:
    """Reads the results of studies.

    Args:
        folders: The folders; several are joined.
        name: Name of the results; None for that of the first study.
        how: The value that tables give of a run; None for `report` of the studies where they agree, else the last one.

    Returns:
        The results.
    """
    skipped = [line for folder in folders for line in skipped_lines(read_skipped(folder))]
    asked = [_report_of(folder) for folder in folders]
    chosen = how or (asked[0] if all(each == asked[0] for each in asked) else "last")
    return gather(folders, name or study_name(folders[0]))._replace(skipped=skipped, report=chosen)


def _report_of(folder: Path) -> ReportField:
    """`report` of the scenario of a study; the last value of a folder without a scenario."""
    try:
        return TypeAdapter(ReportField).validate_python(read_mapping(folder / "scenario.yaml").get("report", "last"))
    except (ScenarioError, ValidationError):
        return "last"


def study_name(folder: Path) -> str:
    """The name of a study.

    Args:
        folder: The folder of the study.

    Returns:
        The name in its scenario; of a folder without a scenario the name of the folder.
    """
    try:
        return str(read_mapping(folder / "scenario.yaml").get("name", folder.name))
    except ScenarioError:
        # the runs know all that tables need
        return folder.name


def write(results: Results, folder: Path) -> list[Path]:
    """Writes `summary.csv`, `tables.csv`, `tables.tex`, `summary.md` and the plots.

    Args:
        results: The results.
        folder: The folder.

    Returns:
        The paths.

    Raises:
        OSError: Where there is no room.
        ScenarioError: Where a file that byzax did not write has one of these names.
    """
    drawn = plots.draw(results, folder)
    texts = {
        "summary.csv": pages.runs_csv(results),
        "tables.csv": pages.cells_csv(results),
        "tables.tex": latex.latex(results),
        "summary.md": pages.markdown(results, [path for path in drawn if path.suffix == ".png"]),
    }
    for name, text in texts.items():
        outputs.save_text(folder / name, text)
    return [*(folder / name for name in texts), *drawn]


def show(results: Results, console: Console) -> None:
    """Prints the tables, in parts that fit the width, and a line for each run that was not completed or is damaged.

    Args:
        results: The results.
        console: The console.
    """
    if len(results.frame):
        for i, table in enumerate(tables.tables(results)):
            console.print(Text(table.title, style="bold"))
            if not i and (subject := tables.shared_settings_line(results)):
                console.print(Text(subject, style="dim"))
            _scores(table, console)
        if found := overall.overall(results):
            console.print(_plain(*overall.overall_rows(found), numbers=2))
            _caption(found.caption, console)
        if time_varies(results.frame, results.curves):
            headings, rows = tables.time_rows(results.frame)
            console.print(_plain(headings, rows, numbers=7))
            _caption("how the time was used, means over the runs", console)
    for line in [*results.damaged, *tables.problem_lines(results)]:
        console.print(Text(line, style="red"))
    for line in [*tables.early_stop_lines(results.frame), *results.skipped]:
        console.print(Text(line, style="dim"))


def show_rows(headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str, console: Console) -> None:
    """Prints a table of texts.

    Args:
        headings: The headings.
        rows: The rows.
        caption: The line below.
        console: The console.
    """
    console.print(_plain(headings, rows, numbers=0))
    _caption(caption, console)


def _caption(text: str, console: Console) -> None:
    """Prints what stands below a table, which may be narrower than the text."""
    console.print(Text(f"  {text}", style="dim italic"))


def _plain(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> Table:
    """A table whose last columns are numbers."""
    names = len(headings) - numbers
    made = Table(box=box.SIMPLE_HEAD)
    for j, heading in enumerate(headings):
        made.add_column(Text(heading), justify="left" if j < names else "right", vertical="bottom")
    for row in rows:
        made.add_row(*(Text(value, style="bold" if j < names else "") for j, value in enumerate(row)))
    return made


def _scores(table: tables.Table, console: Console) -> None:
    headings, rows = tables.text_rows(table)
    keys = len(table.keys)
    widths = [max(map(len, column)) + 2 for column in zip(headings[:keys], *(row[:keys] for row in rows), strict=True)]
    # a heading breaks between words, a number does not break
    narrowest = 2 + max(
        max(map(len, " ".join(headings[keys:]).split())), max(len(text) for row in rows for text in row[keys:])
    )
    fit = max(1, (console.width - sum(widths) - 2) // narrowest)
    texts = _styled(table, rows)
    for start in range(keys, len(headings), fit):
        chosen = [*range(keys), *range(start, min(start + fit, len(headings)))]
        part = Table(box=box.SIMPLE_HEAD)
        for i in chosen:
            part.add_column(
                Text(headings[i]),
                justify="left" if i < keys else "center",
                min_width=max(len(row[i]) for row in rows),
                vertical="bottom",
            )
        for row in texts:
            part.add_row(*(row[i] for i in chosen))
        console.print(part)
    _caption(table.caption, console)


def _styled(table: tables.Table, rows: list[list[str]]) -> list[list[Text]]:
    keys = len(table.keys)
    styled = []
    for row, cells, best, classes in zip(rows, table.cells, table.best, table.classes, strict=True):
        texts = [Text(value, style="bold") for value in row[:keys]]
        for value, cell, first in zip(row[keys:], cells, best, strict=True):
            # twice as good as guessing, or less, or more than half fooled: the attack has won
            if table.score is SUCCESS:
                lost = cell.mean > 0.5
            else:
                lost = cell.mean <= 2 / classes if table.score.higher_is_better else cell.mean == float("inf")
            texts.append(Text(value, style="red" if lost else "bold green" if first else ""))
        styled.append(texts)
    return styled
