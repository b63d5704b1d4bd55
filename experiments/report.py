"""The results of a study, shown: summary files, plots and the table on a terminal."""

from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments import plots, summary
from experiments.strict_yaml import read_mapping


def write(folder: Path) -> list[Path]:
    """Makes `summary.csv`, `summary.md` and the plots of a study from the files of its runs; gives their paths."""
    frame = summary.gather(folder)
    drawn = plots.draw(folder, frame, summary.curves(folder, frame))
    frame.to_csv(folder / "summary.csv", index=False)
    page = summary.markdown(_name(folder), frame, [path for path in drawn if path.suffix == ".png"])
    (folder / "summary.md").write_text(page)
    return [folder / "summary.csv", folder / "summary.md", *drawn]


def show(folder: Path, console: Console) -> None:
    """Prints the table of a study, and a line for each run that was not completed."""
    frame = summary.gather(folder)
    console.print(_table(frame, _name(folder)))
    for line in summary.troubles(frame):
        console.print(Text(line, style="red"))


def _table(frame: pd.DataFrame, title: str) -> Table:
    wide = summary.table(frame)
    headings, rows = summary.text_rows(wide)
    names = wide.index.nlevels
    made = Table(title=title, caption=summary.caption(frame), box=box.SIMPLE_HEAD, title_style="bold")
    for i, heading in enumerate(headings):
        made.add_column(heading, justify="left" if i < names else "center", no_wrap=True)
    means = wide.xs("mean", axis=1, level=1)
    classes = frame.groupby(list(wide.index.names), sort=False)["classes"].first()
    for i, row in enumerate(rows):
        # twice as good as guessing, or less: the attack has won
        lost = 2 / float(classes.loc[wide.index[i]])
        texts = [Text(value, style="bold") for value in row[:names]]
        for j, value in enumerate(row[names:]):
            mean = means.iloc[i, j]
            style = "red" if mean <= lost else "bold green" if mean >= means.iloc[:, j].max() else ""
            texts.append(Text(value, style=style))
        made.add_row(*texts)
    return made


def _name(folder: Path) -> str:
    path = folder / "scenario.yaml"
    return str(read_mapping(path).get("name", folder.name)) if path.exists() else folder.name
