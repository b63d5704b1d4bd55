"""The command line: `byzax run`, `tune`, `replay`, `timeline`, `partition`, `certify`, `show`, `list`, `bench`..."""

# jax, ray, pandas and matplotlib are imported inside the commands: `byzax --help` answers at once
import atexit
import importlib.metadata
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from byzax.experiments.benchmarks.command import bench
from byzax.experiments.certify.command import EXIT_CODES as CERTIFY_EXIT_CODES
from byzax.experiments.certify.command import certify
from byzax.experiments.reference_commands import list_, schema
from byzax.experiments.refusing import (
    INTERRUPTED,
    OVERWRITE,
    QUIET,
    RETRY_FAILED,
    TERMINATED,
    check_environment,
    refuse,
    report_errors,
    signal_outcome,
)
from byzax.experiments.result_commands import SHOW_CODES, partition, replay, show, status, summarise, timeline
from byzax.simulator.mistakes import ScenarioError

app = typer.Typer(
    name="byzax",
    help="Byzantine-robust federated learning, simulated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench, name="bench")
app.command(epilog=CERTIFY_EXIT_CODES)(certify)
EXIT_CODES = (
    "Exit codes: 0, every run was completed; 1, a run failed, or a race lost workers (the others went on); 2, a "
    "mistake in what was asked, and nothing was started; 130 and 143, interrupted (Ctrl-C, SIGTERM), and what was done "
    "is kept."
)


class Measure(StrEnum):
    """The measures that `byzax tune` can choose by."""

    ACCURACY = "validation_accuracy"
    LOSS = "validation_loss"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"byzax {importlib.metadata.version('byzax')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command(epilog=EXIT_CODES)
@report_errors
def run(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Scenarios in YAML, or names of byzax list scenarios.")
    ],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of the results; by default results/NAME.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override: --set rule.name=median --set steps=50."),
    ] = None,
    executor: Annotated[str | None, typer.Option(metavar="NAME", help="loop, vectorised or ray.")] = None,
    ray_address: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Join this Ray cluster.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help=OVERWRITE)] = False,
    retry_failed: RETRY_FAILED = False,
    quiet: QUIET = False,
) -> None:
    """Run scenarios: every combination of the grid, every repeat.

    Where the folder of the results has some of the runs, these stay, one that was cut goes on, and the others are run.
    """
    overrides = _overrides(settings, {"--out": out, "--executor": executor, "--ray-address": ray_address})
    try:
        raws = _read(files, out, settings, overwrite)
        from byzax.experiments import outputs, study

        studies = [study.load(path, overrides, raw) for path, raw in zip(files, raws, strict=True)]
        folders = _folders(files, [each.study.name for each in studies], out)
        outputs.check(folders, files, overwrite, goes_on=True)
        studies = _check(studies, ray_address)
    except ScenarioError as error:
        refuse(error)

    with _opened(folders, studies, files, overwrite, retry_failed) as standings:
        code = _perform(list(zip(studies, folders, standings, strict=True)), ray_address, quiet)
        begun = [folder for folder in folders if any(folder.glob("runs/[!.]*/summary.json"))]
        for folder in folders:
            if folder not in begun:
                outputs.discard(folder)
        shown = summarise(begun, Path(out).name if out else None) if begun else 0
    raise typer.Exit(code or shown)


@contextmanager
def _opened(
    folders: Sequence[Path],
    studies: Sequence[Any],
    files: Sequence[Path],
    overwrite: bool,
    retry_failed: bool,
    kind: Any = "study",
) -> Iterator[list[Any]]:
    """Holds the folders of studies; gives the runs of each that are there, after lines about them."""
    from byzax.experiments import resuming
    from byzax.experiments.writing import WriteError

    with ExitStack() as stack:
        try:
            opened = resuming.opened(folders, studies, files, overwrite, retry_failed, kind)
            standings = stack.enter_context(opened)
        except (ScenarioError, WriteError) as error:
            refuse(error)
        for folder, each, standing in zip(folders, studies, standings, strict=True):
            for line in resuming.lines(folder, each, standing):
                typer.echo(line, err=True)
        yield standings


def _overrides(settings: list[str] | None, options: dict[str, str | None]) -> list[str]:
    """Collects the overrides of a scenario, after checks of the environment and of empty options."""
    check_environment()
    for option, value in options.items():
        if value is not None and not value.strip():
            refuse(f"{option}: is empty: give it a value, or leave it out")
    executor = options["--executor"]
    return [*(settings or []), *([f"executor.name={executor}"] if executor else [])]


def _read(
    files: Sequence[Path], out: str | None, settings: Sequence[str] | None, overwrite: bool, ending: str = ""
) -> list[dict[str, Any]]:
    """Reads files before anything slow is imported, so that mistakes in YAML and unusable output folders end at once.

    Raises ScenarioError for these.
    """
    from byzax.experiments import outputs
    from byzax.experiments.strict_yaml import read_mapping

    raws = [read_mapping(path) for path in files]
    names = [str(raw.get("name", "")) for raw in raws]
    name_is_final = out or not any(text.strip().startswith("name") for text in settings or [])
    if name_is_final and (out or all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}", name) for name in names)):
        kind = "tuning" if ending else "study"
        outputs.check(_folders(files, names, out, ending), files, overwrite, kind, goes_on=True)
    return raws


def _check(studies: list[Any], ray_address: str | None) -> list[Any]:
    """Checks studies and prints notes about them; returns those that can be run, without skipped combinations.

    Raises ScenarioError where a study cannot be run.
    """
    from rich.console import Console

    from byzax.experiments.notes import notes
    from byzax.experiments.progress import can_animate
    from byzax.experiments.study_files import skipped_combinations, skipped_lines
    from byzax.experiments.versions import versions
    from byzax.simulator.validation import validate, validate_quickly

    executors = {cell.study.executor.name for each in studies for cell in each.cells}
    if ray_address and "ray" not in executors:
        raise ScenarioError(f"--ray-address: no run uses ray but {', '.join(executors)}: add --executor ray")
    crowded: list[str] = []
    console = Console(stderr=True)
    with console.status("checking") if can_animate(console) else nullcontext():
        # quick checks of all files come before any tracing
        studies = [validate_quickly(each) for each in studies]
        versions()
        if ray_address:
            _reach(ray_address)
        elif "ray" in executors:
            crowded = _room(studies)
        studies = [validate(each) for each in studies]
        messages = [*(line for each in studies for line in notes(each)), *crowded]
    for each in studies:
        for line in skipped_lines(skipped_combinations(each)):
            typer.echo(f"{each.source}: {line}", err=True)
    for line in messages:
        typer.echo(line, err=True)
    return studies


def _room(studies: list[Any]) -> list[str]:
    """Notes about processes that share cores. Raises ScenarioError where this machine has no room for them."""
    from byzax.simulator.config.grid import prefix_errors
    from byzax.simulator.executors import room

    messages = []
    for each in studies:
        with prefix_errors(each.source):
            lines = dict.fromkeys(room.check(c.study.task) for c in each.cells if c.study.executor.name == "ray")
        messages += [f"{each.source}: note: {line}" for line in lines if line]
    return messages


def _perform(
    studies: list[tuple[Any, Path, Any]],
    ray_address: str | None,
    quiet: bool,
    measure: str | None = None,
    hidden: Sequence[str] = (),
) -> int:
    """Runs studies, each in its folder with the runs that are there, and returns the exit code.

    `measure` is the score shown in the progress.
    """
    from rich.console import Console

    from byzax.experiments import progress, running
    from byzax.experiments.writing import WriteError

    groups = [group for each in studies for group in running.group_runs(*each)]
    failed = any(standing.failed for _, _, standing in studies)
    if not groups:
        return int(failed)
    count = sum(len(group.runs) for group in groups)
    updates = sum(group.scenario.steps * len(group.runs) for group in groups)
    try:
        with progress.report(Console(stderr=True), count, updates, measure, quiet) as report:
            return 0 if running.execute_groups(groups, ray_address, report, hidden) and not failed else 1
    except KeyboardInterrupt as end:
        word, code = signal_outcome(end)
        typer.echo(f"{word}: what is done is kept", err=True)
        return code
    except WriteError as error:
        typer.echo(f"{error}: what is done is kept", err=True)
        return 1


@app.command(epilog=EXIT_CODES)
@report_errors
def tune(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A scenario in YAML, or a name of byzax list scenarios.")
    ],
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=[...]",
            help="Values to choose from, such as steps=[100,200], but not what decides which samples are measured "
            "(seed, data.validation); by default five learning rates around the scenario's, and momentum 0 or 0.9.",
        ),
    ] = None,
    by: Annotated[
        Measure | None,
        typer.Option(help="Measure to choose by; by default the accuracy, and without classes the loss."),
    ] = None,
    each: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Choose for each value of this key of the grid; by default once for all."),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of the results; by default results/NAME-tuning.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override: --set steps=50.")
    ] = None,
    executor: Annotated[str | None, typer.Option(metavar="NAME", help="loop, vectorised or ray.")] = None,
    ray_address: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Join this Ray cluster.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help=OVERWRITE)] = False,
    retry_failed: RETRY_FAILED = False,
    quiet: QUIET = False,
) -> None:
    """Choose learning rate, momentum or what you like on the validation samples, before any test number is taken.

    Runs every combination with the grid and the repeats of the scenario, and chooses the one with the best mean; ties
    go to the first. Test samples are not looked at. Writes tune.csv, and tuned.yaml for byzax run.
    """
    overrides = _overrides(settings, {"--out": out, "--executor": executor, "--ray-address": ray_address})
    try:
        (raw,) = _read([file], out, settings, overwrite, "-tuning")
        from byzax.experiments import outputs
        from byzax.experiments import tune as tuning

        planned = tuning.plan_tuning(file, overrides, over or [], each or [], by.value if by else None, raw)
        folders = _folders([file], [planned.expansion.study.name], out, "-tuning")
        outputs.check(folders, [file], overwrite, "tuning", goes_on=True)
        (checked,) = _check([planned.expansion], ray_address)
        planned = planned._replace(expansion=checked)
    except ScenarioError as error:
        refuse(error)

    with _opened(folders, [planned.expansion], [file], overwrite, retry_failed, "tuning") as (standing,):
        _tune(file, planned, folders[0], standing, ray_address, quiet)


def _tune(file: Path, planned: Any, folder: Path, standing: Any, ray_address: str | None, quiet: bool) -> None:
    """Runs the combinations of a tuning that are not there, and chooses; ends the command."""
    from rich.console import Console

    from byzax.experiments import tune as tuning

    if tuning.shares_test_samples(planned):
        typer.echo(
            f"{file}: each repeat draws test samples of its own, which are others' validation samples: to keep them "
            "apart set repeats=1, or take data with a test set",
            err=True,
        )
    code = _perform([(planned.expansion, folder, standing)], ray_address, quiet, planned.by, tuning.HIDDEN)
    if tuning.discard_if_empty(folder):
        raise typer.Exit(code)
    rows = tuning.tried_combinations(folder, planned)
    if code in (INTERRUPTED, TERMINATED):
        # no choice among the combinations that happened to run first
        rows = [row._replace(best=False) for row in rows]
    written = tuning.write(folder, planned, rows)
    console = Console(width=None if sys.stdout.isatty() else 140)
    tuning.show(folder, console)
    for path in written:
        console.print(str(path), highlight=False, soft_wrap=True)
    if not any(row.best for row in rows):
        typer.echo("nothing is chosen: no combination has all its runs, with finite numbers", err=True)
        raise typer.Exit(code or 1)
    raise typer.Exit(code)


def _reach(address: str) -> None:
    """Raises ScenarioError where nothing answers at `HOST:PORT`: Ray itself would try for minutes."""

    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ScenarioError(f"--ray-address {address}: no cluster answers there ({error.strerror or error})") from None


def _folders(files: Sequence[Path], names: Sequence[str], out: str | None, ending: str = "") -> list[Path]:
    """The output folder of each file. Raises ScenarioError where two files have the same one."""
    if out is not None and len(files) == 1:
        return [Path(out)]
    folders = [
        Path(out) / path.stem if out else Path("results") / f"{name}{ending}"
        for path, name in zip(files, names, strict=True)
    ]
    for i, folder in enumerate(folders):
        if folder in folders[:i]:
            first = files[folders.index(folder)]
            way_out = "rename one file" if out else "change name in one of them"
            raise ScenarioError(f"{files[i]}: {folder} is the output folder of {first} too: {way_out}")
    return folders


app.command()(status)
app.command(epilog=SHOW_CODES)(show)
app.command()(replay)
app.command()(timeline)
app.command()(partition)
app.command("list")(list_)
app.command()(schema)


def main() -> None:
    """The entry point.

    After an interrupt the process ends without tearing down the interpreter, for threads of XLA that are still at work
    may then abort it ("Fatal Python error", exit code 134 in place of 130).
    """
    # XLA reads it at its start, and checks may start it long before a run
    os.environ.setdefault("NPROC", os.environ.get("BYZAX_THREADS", "1"))
    try:
        app(prog_name="byzax")
    except SystemExit as end:
        if end.code in (INTERRUPTED, TERMINATED):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
        raise
