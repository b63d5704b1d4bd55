"""The command `byzax reproduce`."""

# what loads jax, ray, pandas or matplotlib is imported inside the command: `byzax --help` answers at once
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from byzax.experiments.refusing import JOBS, QUIET, check_environment, refuse, report_errors
from byzax.simulator.mistakes import ScenarioError

if TYPE_CHECKING:
    from byzax.experiments.reproduction.target import Reproduction

EXIT_CODES = (
    "Exit codes: 0, every statement holds; 1, a statement does not hold, or a run failed; 2, a mistake in what was "
    "asked; 130 and 143, interrupted, and what is done is kept."
)


@report_errors
def reproduce(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Targets; without one, a list of them.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer and shorter runs, of targets that have such a form: a few minutes.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="All targets, with all their runs.")] = False,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the results: one of each target, and REPRODUCTION.md.")
    ] = Path("results/reproduction"),
    data: Annotated[
        str | None, typer.Option(metavar="NAME", help="A data set in place of that of the scenarios, such as digits.")
    ] = None,
    jobs: JOBS = None,
    quiet: QUIET = False,
) -> None:
    """Run claims of published papers again, and say of each whether it holds.

    A target is a claim with the scenarios that test it, and bounds for what is measured. What is in --out is not run
    again, and what was cut goes on.
    """
    from byzax.experiments.reproduction import document, reproducing

    check_environment()
    if quick and full:
        refuse("--quick and --full: take one of them")
    chosen = list(dict.fromkeys(targets or []))
    if not chosen and not quick and not full:
        _list()
        return
    try:
        found = {name: reproducing.read_target(name) for name in chosen or reproducing.names()}
        if not chosen and quick:
            found = {name: target for name, target in found.items() if target.quick is not None}
        # results of other runs are in folders of their own
        folder = out.joinpath(*(["quick"] if quick else []), *([data] if data else []))
        code = 0
        for name in found:
            typer.echo(f"{name}: {found[name].title}", err=True)
            code = max(code, _reproduce(name, folder, quick, data, jobs, quiet))
        if document.read_outcomes(folder):
            page = folder / "REPRODUCTION.md"
            page.write_text(document.document(folder, "."), encoding="utf-8")
            typer.echo(page)
    except ScenarioError as error:
        refuse(error)
    except OSError as error:
        refuse(f"{out}: cannot be written ({error.strerror or error}): choose another --out")
    raise typer.Exit(code)


def _reproduce(name: str, folder: Path, quick: bool, data: str | None, jobs: int | None, quiet: bool) -> int:
    """Reproduces one target and prints its statements; returns the exit code."""
    from byzax.experiments.reproduction import reproducing
    from byzax.simulator.executors.base import RunError

    try:
        outcome = reproducing.reproduce(name, folder / name, quick=quick, data=data, jobs=jobs, quiet=quiet)
    except ScenarioError:
        raise
    except (RunError, ValueError) as error:
        typer.echo(f"{name}: cannot be checked: {error}", err=True)
        return 1
    except RuntimeError as error:
        refuse(error)
    _print(outcome)
    return int(any(each.holds is False for each in outcome.measured))


def _print(outcome: "Reproduction") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from byzax.experiments.reproduction.document import bound_text, holds_text, number_text

    table = Table(title=f"{outcome.target}: {outcome.verdict}", box=box.SIMPLE, title_justify="left")
    for heading in ("statement", "measured, 95 % interval (seeds)", "bound", "holds"):
        table.add_column(heading)
    for each in outcome.measured:
        table.add_row(each.text, number_text(each), bound_text(each), holds_text(each).strip("*"))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _list() -> None:
    """Prints the targets with what was measured for them when this version was made."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from byzax.experiments.reproduction import document, reproducing

    measured = document.read_outcomes(document.MEASURED)
    table = Table(box=box.SIMPLE)
    for heading in ("target", "claim", "paper", "quick", "measured for this version"):
        table.add_column(heading)
    for name in reproducing.names():
        target = reproducing.read_target(name)
        found = f"{measured[name].verdict}, {measured[name].date}" if name in measured else "not run"
        table.add_row(
            name, target.title, target.paper.partition(",")[0], "yes" if target.quick is not None else "", found
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)
