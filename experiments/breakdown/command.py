"""The command `byzax breakdown`."""

# pandas and matplotlib are imported inside the command: `byzax --help` answers at once
import sys
from pathlib import Path
from typing import Annotated

import typer

from byzax.experiments import command_steps
from byzax.experiments.refusing import (
    EXECUTOR,
    JOBS,
    QUIET,
    RAY_ADDRESS,
    RETRIES,
    refuse,
    report_errors,
    signal_outcome,
)
from byzax.simulator.mistakes import ScenarioError

EXIT_CODES = (
    "Exit codes: 0; 1, no run was completed; 2, a mistake in what was asked, and nothing was started; 130 and 143, "
    "interrupted (Ctrl-C, SIGTERM), and what was done is kept."
)

# The options by the names of the arguments in Python.
OPTIONS = {"low": "--from", "high": "--to"} | {
    name: f"--{name}" for name in ("over", "below", "points", "precision", "measure", "report")
}


@report_errors
def breakdown(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A scenario in YAML, or a name of byzax list scenarios.")
    ],
    over: Annotated[
        str, typer.Option(metavar="KEY", help="The setting, such as workers.byzantine or attack.scale.")
    ] = "workers.byzantine",
    below: Annotated[
        float,
        typer.Option(metavar="X", help="The score below which a rule is broken; of a loss above which."),
    ] = 0.5,
    low: Annotated[
        str | None,
        typer.Option("--from", metavar="VALUE", help="The smallest value; of workers.byzantine 1 by default."),
    ] = None,
    high: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="VALUE", help="The largest value; of workers.byzantine by default the largest below n / 2."
        ),
    ] = None,
    points: Annotated[
        int, typer.Option(metavar="N", help="Values at equal distances that are measured first, both ends among them.")
    ] = 2,
    precision: Annotated[
        float,
        typer.Option(
            metavar="SHARE", help="Where values are no whole numbers, the share of the span at which the search ends."
        ),
    ] = 0.05,
    measure: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The score, a column of metrics.csv; by default the accuracy.")
    ] = None,
    report: Annotated[
        str | None, typer.Option(metavar="last|best|area|N", help="The value of a run, as of byzax show.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the runs; by default results/NAME-breakdown.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override: --set rule.name=median --set steps=50."),
    ] = None,
    executor: EXECUTOR = None,
    ray_address: RAY_ADDRESS = None,
    jobs: JOBS = None,
    retries: RETRIES = 0,
    quiet: QUIET = False,
) -> None:
    """Find the value of a setting from which each combination of a scenario is broken, by bisection.

    Runs are kept in --out, and the same command goes on with those that are there.
    """
    from rich.console import Console

    from byzax.experiments import report as reporting
    from byzax.experiments import study
    from byzax.experiments.breakdown.finding import breakdown as find
    from byzax.experiments.breakdown.finding import write
    from byzax.simulator.executors.base import RunError

    options = {"--out": None if out is None else str(out), "--executor": executor, "--ray-address": ray_address}
    overrides = command_steps.collect_overrides(settings, options)
    try:
        loaded = study.load(file, overrides).study
        folder = out or Path("results") / f"{loaded.name}-breakdown"
        found = find(
            loaded, over=over, below=below, low=_number(low, "--from"), high=_number(high, "--to"), points=points,
            precision=precision, measure=measure, report=report, out=folder, quiet=quiet, ray_address=ray_address,
            jobs=jobs, retries=retries,
        )  # fmt: skip
        written = write(found, folder)
    except RunError as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
    except (ScenarioError, ValueError) as error:
        argument, colon, words = str(error).partition(":")
        refuse(OPTIONS.get(argument, argument) + colon + words)
    except KeyboardInterrupt as end:
        word, code = signal_outcome(end)
        typer.echo(f"{word}: what is done is kept", err=True)
        raise typer.Exit(code) from None
    reporting.show_rows(*found.text_rows(), found.caption, Console(width=None if sys.stdout.isatty() else 140))
    for path in written:
        typer.echo(path)


def _number(text: str | None, option: str) -> int | float | None:
    """A number that is whole where it is written so."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        refuse(f"{option} {text}: a number is needed")
