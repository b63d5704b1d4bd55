"""The command `byzax plot`."""

# pandas and matplotlib are imported inside the command: `byzax --help` answers at once
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from byzax.experiments.refusing import refuse, report_errors
from byzax.simulator.mistakes import ScenarioError

SUFFIXES = (".png", ".pdf", ".svg")


class FigureKind(StrEnum):
    """The figures that `byzax plot` draws."""

    LINE = "line"
    HEATMAP = "heatmap"
    BOX = "box"
    STRIP = "strip"
    SCATTER = "scatter"
    PROFILE = "profile"
    SELECTION = "selection"
    STALENESS = "staleness"


class BandKind(StrEnum):
    """The bands around the lines of `byzax plot`."""

    SD = "sd"
    CI = "ci"
    RANGE = "range"
    NONE = "none"


@report_errors
def plot(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study of byzax run.")],
    kind: Annotated[
        FigureKind,
        typer.Option(
            help="Lines over the course of the runs, a heat map of means, boxes, a point for each run, a point at two "
            "measurements, performance profiles of the rules, weights of the workers, or ages of rows."
        ),
    ] = FigureKind.LINE,
    x: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Horizontal: of lines step, time_s, gradients, bits or wall_s, of scatter a measurement, else a "
            "setting that varies, such as workers.byzantine.",
        ),
    ] = None,
    y: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The measurement, a column of metrics.csv, or of updates.csv for lines."),
    ] = None,
    hue: Annotated[
        str, typer.Option(metavar="COLUMN", help="The setting of the colours, or of the rows of a heat map.")
    ] = "rule",
    col: Annotated[
        str, typer.Option(metavar="COLUMN", help="The setting of the panels; none for one panel.")
    ] = "attack",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only runs with this setting, as tables write it."),
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="last|best|area|N", help="The value of a run, as of byzax show; not of lines.")
    ] = None,
    band: Annotated[
        BandKind,
        typer.Option(help="Around lines: one standard deviation, the 95 % interval of the mean, the range, or none."),
    ] = BandKind.SD,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The figure, .png, .pdf or .svg; by default plot.png here.")
    ] = None,
) -> None:
    """Draw the results of a study by any of its settings and measurements.

    What settings the figure does not show it averages over, and says so below.
    """
    from byzax.experiments import api
    from byzax.experiments.writing import write_picture

    path = out or Path("plot.png")
    if path.suffix not in SUFFIXES:
        refuse(f"--out {path}: {', '.join(SUFFIXES)} is needed")
    chosen = {}
    for text in where or []:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            refuse(f"--where {text}: COLUMN=VALUE is needed, such as --where attack=none")
        chosen[key.strip()] = value.strip()
    try:
        result = api.load(folder)
        figure = result.plot(x, y, hue, None if col == "none" else col, chosen, kind.value, report, band.value)
        write_picture(path, figure, "--out")
    except (ScenarioError, ValueError) as error:
        refuse(error)
    typer.echo(path)
