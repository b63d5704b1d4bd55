"""The commands `byzax status`, `show`, `replay`, `timeline`, `topology`, `ledger` and `partition`."""

# jax, ray, pandas and matplotlib are imported inside the commands: `byzax --help` answers at once
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from byzax.experiments.refusing import refuse, report_errors
from byzax.simulator.mistakes import ScenarioError

if TYPE_CHECKING:
    from byzax.simulator.config.executors import ReportField

SHOW_CODES = (
    "Exit codes: 0; 1, a run is damaged, or there is no room for a file; 2, there are no results, or another's file is "
    "in the way of one."
)


def summarise(
    folders: Sequence[Path], name: str | None = None, out: Path | None = None, how: "ReportField | None" = None
) -> int:
    """Prints the tables of studies, of several as one, and writes the summary and plots of each.

    Args:
        folders: The folders of the studies.
        name: Name of the joined studies where they have different ones; None for that of the first.
        out: Folder of one summary of all studies; None for a summary in the folder of each.
        how: The value that tables give of a run; None for `report` of the studies.

    Returns:
        The exit code: 1 where a run is damaged or there is no room, 2 where a file that byzax did not write is in the
        way.
    """
    from rich.console import Console

    from byzax.experiments import report

    results = [report.read([folder], how=how) for folder in folders]
    names = {each.name for each in results}
    together = results[0] if len(folders) == 1 else report.read(folders, names.pop() if len(names) == 1 else name, how)
    console = Console(width=None if sys.stdout.isatty() else 140)
    report.show(together, console)
    code = 1 if together.damaged else 0
    for each, folder in [(together, out)] if out else zip(results, folders, strict=True):
        if each.frame.empty:
            continue
        try:
            for path in report.write(each, folder):
                typer.echo(path)
        except ScenarioError as error:
            typer.echo(error, err=True)
            code = 2
        except OSError as error:
            why = f"tables and plots cannot be written ({error.strerror or error})"
            typer.echo(f"{folder}: {why}: byzax show makes them, from the files of the runs", err=True)
            code = code or 1
    return code


@report_errors
def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study of byzax run or byzax tune.")],
) -> None:
    """Print how far a study is: runs that are done, running, cut or failed, and the time left.

    It can be asked while another process runs the study.
    """
    from byzax.experiments.status import lines
    from byzax.experiments.status import status as read

    try:
        for line in lines(folder, read(folder)):
            typer.echo(line)
    except ScenarioError as error:
        refuse(error)


@report_errors
def show(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study, or a folder of studies, of byzax run.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of summary and plots, of all studies together; by default each own's."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the results that --out holds.")] = False,
    report: Annotated[
        str | None,
        typer.Option(
            metavar="last|best|area|N",
            help="The value that tables give of a run: its last one, its best one, the mean over its updates, or the "
            "mean of N last evaluations; by default that of the scenario.",
        ),
    ] = None,
) -> None:
    """Print the tables of a finished study and make its summary and plots again, from its files.

    Several studies under one folder are one table, with a column for each key in which they differ. A damaged run is
    named and left out.
    """
    from rich.console import Console

    from byzax.experiments import outputs, tune
    from byzax.experiments.reported import report_of

    try:
        how = None if report is None else report_of(report)
    except ValueError as error:
        refuse(f"--report {error}")
    studies = [folder] if (folder / "runs").is_dir() else sorted(path.parent for path in folder.glob("*/runs"))
    code = 0
    try:
        if not studies:
            raise ScenarioError(f"{folder}: no results here: a folder that byzax run wrote is needed")
        if out:
            outputs.claim([out], [], overwrite)
    except (ScenarioError, OSError) as error:
        refuse(error)
    tuned = [each for each in studies if (each / "tune.csv").exists()]
    for each in tuned:
        try:
            whole = tune.show(each, Console(width=None if sys.stdout.isatty() else 140))
        except ScenarioError as error:
            typer.echo(error, err=True)
            whole = False
        code = code or (0 if whole else 1)
    if others := [each for each in studies if each not in tuned]:
        code = max(code, summarise(others, folder.resolve().name, out, how))
    raise typer.Exit(code)


@report_errors
def replay(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or a study, of byzax run.")]) -> None:
    """Do a recorded run again, one worker after the other, and say whether it gives the same numbers, bit for bit.

    A race on the clock is done again in the order in which its rows came. Ends with 0 if all are the same, 1 if one is
    not, 2 if one cannot be replayed.
    """
    from byzax.experiments import replay as again

    same, refused = True, False
    try:
        runs = again.run_folders(folder)
    except ScenarioError as error:
        refuse(error)
    for run in runs:
        try:
            for each in again.replay(run):
                if isinstance(each, again.Replayed):
                    same &= not each.problem
                    outcome = each.problem or "the same, bit for bit"
                    typer.echo(f"{run.name}: {each.updates} updates: {outcome}")
        except ScenarioError as error:
            # the other runs of the study are still compared
            typer.echo(error, err=True)
            refused = True
    raise typer.Exit(2 if refused else 0 if same else 1)


@report_errors
def timeline(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario, the folder of a run, or its timeline.npz.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a scenario: --set steps=50.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The chart, .png or .svg; by default timeline.png here.")
    ] = None,
    since: Annotated[float, typer.Option("--from", metavar="SECONDS", help="Start of the chart.")] = 0.0,
    until: Annotated[
        float | None,
        typer.Option("--to", metavar="SECONDS", help="End of the chart; by default so that it can be read."),
    ] = None,
) -> None:
    """Draw who computes when, and which update each row goes into; print how every worker spent its time."""
    from rich.console import Console

    from byzax.experiments import timelines

    try:
        labelled = timelines.read(file, settings or [])
        picture = timelines.draw(labelled, since, until, out or Path("timeline.png"))
    except ScenarioError as error:
        refuse(error)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(timelines.table(labelled))
    console.print(str(picture), highlight=False, soft_wrap=True)


@report_errors
def topology(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario, or the folder of a run.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a scenario: --set rule=krum.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture, .png or .svg; by default topology.png here.")
    ] = None,
) -> None:
    """Draw nodes and links; print how many messages each node reads, and which conditions are met."""
    from rich.console import Console

    from byzax.experiments import topologies

    try:
        structure = topologies.read(file, settings or [])
        picture = topologies.draw(structure, out or Path("topology.png"))
    except ScenarioError as error:
        refuse(error)
    console = Console(width=None if sys.stdout.isatty() else 140)
    for each in topologies.tables(structure):
        console.print(each)
    console.print(str(picture), highlight=False, soft_wrap=True)


@report_errors
def ledger(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario, or the folder of a run.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a scenario: --set steps=50.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="A file for all links.")] = None,
) -> None:
    """Count messages and bits by directions, links and nodes."""
    from rich.console import Console

    from byzax.experiments import ledgers, timelines

    try:
        labelled = timelines.read(file, settings or [])
        links = ledgers.read(labelled, file)
        if json is not None:
            ledgers.write(links, json)
    except ScenarioError as error:
        refuse(error)
    console = Console(width=None if sys.stdout.isatty() else 140)
    for each in ledgers.tables(labelled, links):
        console.print(each)
    if json is not None:
        console.print(str(json), highlight=False, soft_wrap=True)


class Chart(StrEnum):
    """The charts of `byzax partition`."""

    AUTO = "auto"
    BARS = "bars"
    BUBBLES = "bubbles"


@report_errors
def partition(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario, or the folder of a run.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a scenario: --set data.partition=iid."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the split; by default the scenario's.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The chart, as .png and .svg; by default partition.png here.")
    ] = None,
    chart: Annotated[
        Chart, typer.Option(help="Bars, or a circle for each worker and label; auto: bars up to 50 workers.")
    ] = Chart.AUTO,
) -> None:
    """Say which labels the splits have and which samples every worker holds; draw it. Of a grid its first run."""
    from rich.console import Console

    from byzax.experiments import shares

    try:
        holdings = shares.read(file, settings or [], seed)
        pictures = shares.draw(holdings, chart.value, out or Path("partition.png"))
    except ScenarioError as error:
        refuse(error)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(shares.splits(holdings))
    console.print(shares.table(holdings))
    for picture in pictures:
        console.print(str(picture), highlight=False, soft_wrap=True)
