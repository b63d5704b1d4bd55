"""The command line: `byzax run`, `tune`, `replay`, `timeline`, `partition`, `certify`, `show`, `list`, `bench`..."""

# jax, ray, pandas and matplotlib are imported inside the commands: `byzax --help` answers at once
import atexit
import importlib.metadata
import json
import os
import re
import socket
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from byzax.experiments.benchmarks.command import bench
from byzax.experiments.certify.command import EXIT_CODES as CERTIFY_EXIT_CODES
from byzax.experiments.certify.command import certify
from byzax.experiments.refusing import (
    INTERRUPTED,
    OVERWRITE,
    QUIET,
    TERMINATED,
    check_environment,
    refuse,
    report_errors,
    signal_outcome,
)
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

SHOW_CODES = (
    "Exit codes: 0; 1, a run is damaged, or there is no room for a file; 2, there are no results, or another's file is "
    "in the way of one."
)


class Listing(StrEnum):
    """The kinds of members that `byzax list` lists."""

    RULES = "rules"
    PRE = "pre"
    FILTERS = "filters"
    ATTACKS = "attacks"
    MODELS = "models"
    DATA = "data"
    PARTITIONS = "partitions"
    AUGMENTATIONS = "augmentations"
    SCHEDULES = "schedules"
    LATENCY = "latency"
    RATES = "rates"
    OPTIMIZERS = "optimizers"
    EXECUTORS = "executors"


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
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Scenarios in YAML.")],
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
    quiet: QUIET = False,
) -> None:
    """Run scenarios: every combination of the grid, every repeat."""
    overrides = _overrides(settings, {"--out": out, "--executor": executor, "--ray-address": ray_address})
    try:
        raws = _read(files, out, settings, overwrite)
        from byzax.experiments import outputs, results, study

        studies = [study.load(path, overrides, raw) for path, raw in zip(files, raws, strict=True)]
        folders = _folders(files, [each.study.name for each in studies], out)
        outputs.check(folders, files, overwrite)
        studies = _check(studies, ray_address)
        outputs.claim(folders, files, overwrite)
    except ScenarioError as error:
        refuse(error)

    try:
        for folder, each in zip(folders, studies, strict=True):
            results.save_study(folder, each)
    except results.WriteError as error:
        refuse(error)
    code = _perform(list(zip(studies, folders, strict=True)), ray_address, quiet)
    begun = [folder for folder in folders if any(folder.glob("runs/[!.]*/summary.json"))]
    for folder in folders:
        if folder not in begun:
            outputs.discard(folder)
    shown = _summarise(begun, Path(out).name if out else None) if begun else 0
    raise typer.Exit(code or shown)


def _overrides(settings: list[str] | None, given: dict[str, str | None]) -> list[str]:
    """Collects the overrides of a scenario, after checks of the environment and of empty options."""
    check_environment()
    for option, value in given.items():
        if value is not None and not value.strip():
            refuse(f"{option}: is empty: give it a value, or leave it out")
    executor = given["--executor"]
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
        outputs.check(_folders(files, names, out, ending), files, overwrite)
    return raws


def _check(studies: list[Any], ray_address: str | None) -> list[Any]:
    """Checks studies and prints notes about them; returns those that can be run, without skipped combinations.

    Raises ScenarioError where a study cannot be run.
    """
    from rich.console import Console

    from byzax.experiments import results, study
    from byzax.experiments.notes import notes
    from byzax.experiments.progress import can_animate
    from byzax.simulator.validation import validate, validate_quickly

    executors = {cell.study.executor.name for each in studies for cell in each.cells}
    if ray_address and "ray" not in executors:
        raise ScenarioError(f"--ray-address: no run uses ray but {', '.join(executors)}: add --executor ray")
    crowded: list[str] = []
    console = Console(stderr=True)
    with console.status("checking") if can_animate(console) else nullcontext():
        # quick checks of all files come before any tracing
        studies = [validate_quickly(each) for each in studies]
        results.versions()
        if ray_address:
            _reach(ray_address)
        elif "ray" in executors:
            crowded = _room(studies)
        studies = [validate(each) for each in studies]
        told = [*(line for each in studies for line in notes(each)), *crowded]
    for each in studies:
        for line in study.skipped_lines(results.skipped_combinations(each)):
            typer.echo(f"{each.source}: {line}", err=True)
    for line in told:
        typer.echo(line, err=True)
    return studies


def _room(studies: list[Any]) -> list[str]:
    """Notes about processes that share cores. Raises ScenarioError where this machine has no room for them."""
    from byzax.simulator.config.grid import prefix_errors
    from byzax.simulator.executors import room

    told = []
    for each in studies:
        with prefix_errors(each.source):
            lines = dict.fromkeys(room.check(c.study.task) for c in each.cells if c.study.executor.name == "ray")
        told += [f"{each.source}: note: {line}" for line in lines if line]
    return told


def _perform(
    studies: list[tuple[Any, Path]],
    ray_address: str | None,
    quiet: bool,
    measure: str | None = None,
    hidden: Sequence[str] = (),
) -> int:
    """Runs studies, each in its folder, and returns the exit code. `measure`: the score shown in the progress."""
    from rich.console import Console

    from byzax.experiments import progress, results, running

    groups = [group for each, folder in studies for group in running.group_runs(each, folder)]
    count = sum(len(group.runs) for group in groups)
    updates = sum(group.scenario.steps * len(group.runs) for group in groups)
    try:
        with progress.report(Console(stderr=True), count, updates, measure, quiet) as report:
            return 0 if running.execute_groups(groups, ray_address, report, hidden) else 1
    except KeyboardInterrupt as end:
        word, code = signal_outcome(end)
        typer.echo(f"{word}: what is done is kept", err=True)
        return code
    except results.WriteError as error:
        typer.echo(f"{error}: what is done is kept", err=True)
        return 1


@app.command(epilog=EXIT_CODES)
@report_errors
def tune(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario in YAML.")],
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=[...]",
            help="What to choose from, such as steps=[100,200], but not what decides which samples are measured (seed, "
            "data.validation); by default five learning rates around the scenario's, and momentum 0 or 0.9.",
        ),
    ] = None,
    by: Annotated[
        Measure | None, typer.Option(help="What to choose by; by default the accuracy, and without classes the loss.")
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
    quiet: QUIET = False,
) -> None:
    """Choose learning rate, momentum or what you like on the validation samples, before any test number is taken.

    Runs every combination with the grid and the repeats of the scenario, and chooses the one with the best mean; ties
    go to the first. Test samples are not looked at. Writes tune.csv, and tuned.yaml for byzax run.
    """
    overrides = _overrides(settings, {"--out": out, "--executor": executor, "--ray-address": ray_address})
    try:
        (raw,) = _read([file], out, settings, overwrite, "-tuning")
        from rich.console import Console

        from byzax.experiments import outputs, results
        from byzax.experiments import tune as tuning

        planned = tuning.plan_tuning(file, overrides, over or [], each or [], by.value if by else None, raw)
        folders = _folders([file], [planned.expansion.study.name], out, "-tuning")
        outputs.check(folders, [file], overwrite)
        (checked,) = _check([planned.expansion], ray_address)
        planned = planned._replace(expansion=checked)
        outputs.claim(folders, [file], overwrite)
    except ScenarioError as error:
        refuse(error)

    (folder,) = folders
    try:
        results.save_study(folder, planned.expansion)
    except results.WriteError as error:
        refuse(error)
    if tuning.shares_test_samples(planned):
        typer.echo(
            f"{file}: each repeat draws test samples of its own, which are others' validation samples: to keep them "
            "apart set repeats=1, or take data with a test set",
            err=True,
        )
    code = _perform([(planned.expansion, folder)], ray_address, quiet, planned.by, tuning.HIDDEN)
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


def _summarise(folders: Sequence[Path], name: str | None = None, out: Path | None = None) -> int:
    """Prints the tables of studies, of several as one, and writes the summary and plots of each; with `out` those of
    all.

    The exit code is 1 where a run is damaged or there is no room, 2 where a file that byzax did not write is in the
    way.
    """
    from rich.console import Console

    from byzax.experiments import report

    found = [report.read([folder]) for folder in folders]
    names = {each.name for each in found}
    together = found[0] if len(folders) == 1 else report.read(folders, names.pop() if len(names) == 1 else name)
    console = Console(width=None if sys.stdout.isatty() else 140)
    report.show(together, console)
    code = 1 if together.damaged else 0
    for each, folder in [(together, out)] if out else zip(found, folders, strict=True):
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


@app.command(epilog=SHOW_CODES)
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
) -> None:
    """Print the tables of a finished study and make its summary and plots again, from its files.

    Several studies under one folder are one table, with a column for each key in which they differ. A damaged run is
    named and left out.
    """
    from rich.console import Console

    from byzax.experiments import outputs, tune

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
        code = max(code, _summarise(others, folder.resolve().name, out))
    raise typer.Exit(code)


@app.command()
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
                    said = each.problem or "the same, bit for bit"
                    typer.echo(f"{run.name}: {each.updates} updates: {said}")
        except ScenarioError as error:
            # the other runs of the study are still compared
            typer.echo(error, err=True)
            refused = True
    raise typer.Exit(2 if refused else 0 if same else 1)


@app.command()
@report_errors
def timeline(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A scenario, the folder of a run, or its timeline.npz.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a scenario: --set steps=50.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The chart, .png or .svg; by default timeline.png here.")
    ] = None,
    since: Annotated[float, typer.Option("--from", metavar="SECONDS", help="Where the chart begins.")] = 0.0,
    until: Annotated[
        float | None, typer.Option("--to", metavar="SECONDS", help="Where it ends; by default where it can be read.")
    ] = None,
) -> None:
    """Draw who computes when, and which update each row goes into; print how every worker spent its time."""
    from rich.console import Console

    from byzax.experiments import timelines

    try:
        found = timelines.read(file, settings or [])
        picture = timelines.draw(found, since, until, out or Path("timeline.png"))
    except ScenarioError as error:
        refuse(error)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(timelines.table(found))
    console.print(str(picture), highlight=False, soft_wrap=True)


class Chart(StrEnum):
    """The charts of `byzax partition`."""

    AUTO = "auto"
    BARS = "bars"
    BUBBLES = "bubbles"


@app.command()
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
        found = shares.read(file, settings or [], seed)
        pictures = shares.draw(found, chart.value, out or Path("partition.png"))
    except ScenarioError as error:
        refuse(error)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(shares.splits(found))
    console.print(shares.table(found))
    for picture in pictures:
        console.print(str(picture), highlight=False, soft_wrap=True)


@app.command("list")
@report_errors
def list_(
    kind: Annotated[Listing | None, typer.Argument(help="What to list; without one, the kinds.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table in Markdown, without the options.")] = False,
) -> None:
    """List what a scenario can name, with conditions, options and sources."""
    from rich.console import Console

    from byzax.experiments import listing

    if markdown and kind is None:
        refuse(f"--markdown: a kind is needed: {', '.join(listing.KINDS)}")
    if markdown and kind is not None:
        typer.echo(listing.markdown(kind.value))
        return
    table = listing.kinds() if kind is None else listing.table(kind.value)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    for line in listing.functions(kind.value)[1] if kind else ():
        typer.echo(f"left out: {line}", err=True)


class Described(StrEnum):
    """The files that `byzax schema` describes."""

    SCENARIO = "scenario"
    CERTIFICATE = "certificate"


@app.command()
@report_errors
def schema(
    described: Annotated[Described, typer.Argument(help="The file of byzax run, or of certify.")] = Described.SCENARIO,
) -> None:
    """Print the JSON Schema of a scenario or a certificate; editors complete and check YAML files with it.

    Save it (byzax schema > byzax.json) and begin a scenario with: # yaml-language-server: $schema=byzax.json
    """
    from byzax.experiments.certify.description import Certificate
    from byzax.simulator.config.part import json_schema
    from byzax.simulator.config.study import Study

    made = json_schema(Study if described is Described.SCENARIO else Certificate)
    typer.echo(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **made}, indent=2))


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
