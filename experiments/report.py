"""The results of a study, shown: summary files, plots and the table on a terminal."""

from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments import outputs, plots, summary
from experiments.results import read_skipped
from experiments.scores import SUCCESS, Score
from experiments.strict_yaml import read_mapping
from experiments.study import skipped_lines


def write(folder: Path) -> list[Path]:
    """Makes `summary.csv`, `summary.md` and the plots of a study from the files of its runs; gives their paths."""
    frame = summary.gather(folder)
    curves = summary.curves(folder, frame)
    drawn = plots.draw(folder, frame, curves)
    outputs.save_text(folder / "summary.csv", frame.to_csv(index=False))
    page = summary.markdown(_name(folder), frame, curves, [path for path in drawn if path.suffix == ".png"])
    if lines := skipped_lines(read_skipped(folder)):
        page += "\n" + "".join(f"- {line}\n" for line in lines)
    outputs.save_text(folder / "summary.md", page)
    return [folder / "summary.csv", folder / "summary.md", *drawn]


def show(folder: Path, console: Console) -> None:
    """Prints the tables of a study, in parts that fit the width, and a line for each run that was not completed."""
    frame = summary.gather(folder)
    curves = summary.curves(folder, frame)
    for i, (words, each, score) in enumerate(summary.tables(frame, curves)):
        _scores(each, score, words, None if i else _name(folder), console)
    if summary.timed(frame, curves):
        headings, rows = summary.spent_rows(frame)
        names = len(headings) - 6
        used = Table(caption="how the time was used, on average over the repeats", box=box.SIMPLE_HEAD)
        for j, heading in enumerate(headings):
            used.add_column(heading, justify="left" if j < names else "right", vertical="bottom")
        for row in rows:
            used.add_row(*(Text(value, style="bold" if j < names else "") for j, value in enumerate(row)))
        console.print(used)
    for line in summary.troubles(frame):
        console.print(Text(line, style="red"))
    for line in [*summary.early(frame), *skipped_lines(read_skipped(folder))]:
        console.print(Text(line, style="dim"))


def _scores(frame: pd.DataFrame, score: Score, words: str, title: str | None, console: Console) -> None:
    wide = summary.table(frame, score)
    headings, rows = summary.text_rows(wide, score)
    names = wide.index.nlevels
    widths = [
        max(map(len, column)) + 2 for column in zip(headings[:names], *(row[:names] for row in rows), strict=True)
    ]
    # a heading breaks between words, a number does not break
    narrowest = 2 + max(
        max(map(len, " ".join(headings[names:]).split())), max(len(v) for row in rows for v in row[names:])
    )
    fit = max(1, (console.width - sum(widths) - 2) // narrowest)
    texts = _styled(frame, score, wide, rows)
    for start in range(names, len(headings), fit):
        chosen = [*range(names), *range(start, min(start + fit, len(headings)))]
        last = chosen[-1] == len(headings) - 1
        part = Table(
            title=title if start == names else None,
            caption=words if last else None,
            box=box.SIMPLE_HEAD,
            title_style="bold",
        )
        for i in chosen:
            longest = max(len(row[i]) for row in rows)
            part.add_column(
                headings[i], justify="left" if i < names else "center", min_width=longest, vertical="bottom"
            )
        for row in texts:
            part.add_row(*(row[i] for i in chosen))
        console.print(part)


def _styled(frame: pd.DataFrame, score: Score, wide: pd.DataFrame, rows: list[list[str]]) -> list[list[Text]]:
    names = wide.index.nlevels
    means = wide.xs("mean", axis=1, level=1)
    higher = score.higher_is_better
    classes = frame.groupby(list(wide.index.names), sort=False)["classes"].first()
    styled = []
    for i, row in enumerate(rows):
        texts = [Text(value, style="bold") for value in row[:names]]
        for j, value in enumerate(row[names:]):
            mean, all_of_attack = means.iloc[i, j], means.iloc[:, j]
            # twice as good as guessing, or less, or more than half fooled: the attack has won
            if score is SUCCESS:
                lost = mean > 0.5
            else:
                lost = mean <= 2 / float(classes.loc[wide.index[i]]) if higher else mean == float("inf")
            best = mean == (all_of_attack.max() if higher else all_of_attack.min())
            texts.append(Text(value, style="red" if lost else "bold green" if best else ""))
        styled.append(texts)
    return styled


def _name(folder: Path) -> str:
    path = folder / "scenario.yaml"
    return str(read_mapping(path).get("name", folder.name)) if path.exists() else folder.name
