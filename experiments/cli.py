"""The command line: `byzax run`, `certify`, `show`, `list`, `schema`, `bench`."""

# jax, ray, pandas and matplotlib are imported inside the commands: `byzax --help` answers at once
import difflib
import functools
import importlib.metadata
import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    name="byzax",
    help="Byzantine-robust federated learning, simulated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# as a shell counts them: 128 + the number of the signal
INTERRUPTED, TERMINATED = 130, 143
EXIT_CODES = (
    "Exit codes: 0, every run was completed; 1, a run failed (the others went on); 2, a mistake in what was asked, and "
    "nothing was started; 130 and 143, interrupted (Ctrl-C, SIGTERM), and what was done is kept."
)


class Kind(StrEnum):
    """What `byzax list` can list."""

    RULES = "rules"
    PRE = "pre"
    ATTACKS = "attacks"
    MODELS = "models"
    DATA = "data"
    PARTITIONS = "partitions"
    SCHEDULES = "schedules"
    OPTIMIZERS = "optimizers"
    EXECUTORS = "executors"


def _plainly(command: Callable[..., None]) -> Callable[..., None]:
    """The command, where plug-ins that cannot be used and a lack of memory are one line and exit code 2."""

    @functools.wraps(command)
    def called(*arguments: Any, **options: Any) -> None:
        from simulator.registry import PluginError

        try:
            command(*arguments, **options)
        except PluginError as error:
            _refuse(error)
        except MemoryError as error:
            _refuse(f"this needs more memory than there is: {error}")

    return called


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
@_plainly
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the results that --out holds.")] = False,
) -> None:
    """Run scenarios: every combination of the grid, every repeat."""
    from rich.console import Console

    from experiments import progress, results, running, study
    from simulator.scenario import ScenarioError

    for option, value in {"--out": out, "--executor": executor, "--ray-address": ray_address}.items():
        if value is not None and not value.strip():
            _refuse(f"{option}: is empty: give it a value, or leave it out")
    overrides = [*(settings or []), *([f"executor.name={executor}"] if executor else [])]
    try:
        studies = [study.load(path, overrides) for path in files]
        with Console(stderr=True).status("checking") if sys.stderr.isatty() else nullcontext():
            for each in studies:
                study.check(each)
        executors = {cell.scenario.executor.name for each in studies for cell in each.cells}
        if ray_address and "ray" not in executors:
            raise ScenarioError(f"--ray-address: no run uses ray but {', '.join(executors)}: add --executor ray")
        if ray_address:
            _reach(ray_address)
        folders = _folders(studies, Path(out) if out else None)
        results.versions()
        results.claim(folders, files, overwrite)
    except ScenarioError as error:
        _refuse(error)

    for folder, each in zip(folders, studies, strict=True):
        results.save_study(folder, each)
    todo = [job for each, folder in zip(studies, folders, strict=True) for job in running.jobs(each, folder)]
    count = sum(len(job.runs) for job in todo)
    updates = sum(job.scenario.steps * len(job.runs) for job in todo)
    code = 0
    try:
        with running.heard(), progress.report(Console(stderr=True), count, updates) as report:
            code = 0 if running.perform(todo, ray_address, report) else 1
    except running.Terminated:
        typer.echo("terminated: what is done is kept", err=True)
        code = TERMINATED
    except KeyboardInterrupt:
        typer.echo("interrupted: what is done is kept", err=True)
        code = INTERRUPTED
    for folder in folders:
        if any(folder.glob("runs/[!.]*/summary.json")):
            _summarise(folder)
        else:
            results.discard(folder)
    raise typer.Exit(code)


def _reach(address: str) -> None:
    """Raises ScenarioError where nothing answers at `HOST:PORT`: Ray itself would try for minutes."""
    from simulator.scenario import ScenarioError

    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ScenarioError(f"--ray-address {address}: no cluster answers there ({error.strerror or error})") from None


def _folders(studies: list[Any], out: Path | None) -> list[Path]:
    """Where each study goes. Raises ScenarioError where two go to the same place."""
    from simulator.scenario import ScenarioError

    if out is not None and len(studies) == 1:
        return [out]
    folders = [out / each.path.stem if out else Path("results") / each.base.name for each in studies]
    for i, folder in enumerate(folders):
        if folder in folders[:i]:
            first = studies[folders.index(folder)].path
            way_out = "rename one file" if out else "change name in one of them"
            raise ScenarioError(f"{studies[i].path}: {folder} is the output folder of {first} too: {way_out}")
    return folders


def _refuse(error: Exception | str) -> NoReturn:
    for line in str(error).splitlines():
        typer.echo(line, err=True)
    raise typer.Exit(2)


def _summarise(folder: Path) -> None:
    """Writes summary and plots of a study and prints its table."""
    from rich.console import Console

    from experiments import report

    written = report.write(folder)
    console = Console(width=None if sys.stdout.isatty() else 140)
    report.show(folder, console)
    for path in written:
        console.print(str(path), highlight=False, soft_wrap=True)


@app.command()
@_plainly
def show(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that byzax run wrote.")]) -> None:
    """Print the table of a finished study and make its summary and plots again, from its files."""
    from simulator.scenario import ScenarioError

    studies = [folder] if (folder / "runs").is_dir() else sorted(path.parent for path in folder.glob("*/runs"))
    try:
        if not studies:
            raise ScenarioError(f"{folder}: no results here: a folder that byzax run wrote is needed")
        for each in studies:
            _summarise(each)
    except (ScenarioError, OSError) as error:
        _refuse(error)


@app.command(
    epilog="Exit codes: 0, it was measured (whatever came out); 2, a mistake in what was asked, and nothing was "
    "started; 130, interrupted, and nothing is kept."
)
@_plainly
def certify(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="What to measure, in YAML.")] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A rule, by name or as {name: ..., option: ...}; again for more."),
    ] = None,
    n: Annotated[int | None, typer.Option("-n", metavar="ROWS", help="Rows; by default 25.")] = None,
    f: Annotated[int | None, typer.Option("-f", metavar="LIARS", help="Byzantine rows; by default 5.")] = None,
    d: Annotated[int | None, typer.Option("-d", metavar="PARAMETERS", help="By default 1000.")] = None,
    attack: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An attack; again for more; by default all.")
    ] = None,
    samples: Annotated[int | None, typer.Option(metavar="DRAWS", help="Draws of honest rows; by default 200.")] = None,
    sigma: Annotated[
        float | None, typer.Option(metavar="SIGMA", help="Noise of each coordinate; by default |g| / sqrt(d).")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="SEED", help="By default 0.")] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of the results; by default results/certify-RULE.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override: --set norm=2 --set 'parts=[leak]'."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the certificate that --out holds.")] = False,
) -> None:
    """Measure how resilient rules are: angle, kappa, breakdown point, hidden vulnerability, beside what is proven."""
    from experiments.certify import description
    from experiments.names import file_name
    from experiments.strict_yaml import parse_text
    from simulator.scenario import ScenarioError

    if out is not None and not out.strip():
        _refuse("--out: is empty: give it a value, or leave it out")
    try:
        numbers = {"n": n, "f": f, "d": d, "samples": samples, "sigma": sigma, "seed": seed}
        flags: dict[str, Any] = {key: value for key, value in numbers.items() if value is not None}
        if rule:
            flags["rules"] = [parse_text(text, "--rule") for text in rule]
        if attack:
            flags["attacks"] = "all" if "all" in attack else [parse_text(text, "--attack") for text in attack]
        asked = description.load(file, flags, settings or [])
        folder = Path(out) if out else Path("results", file_name(["certify", asked.name or _rules(asked)], []))
        _certify(asked, file, folder, overwrite)
    except ScenarioError as error:
        _refuse(error)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _rules(asked: Any) -> str:
    return "-".join(dict.fromkeys(part.name for part in asked.subjects))


def _certify(asked: Any, file: Path | None, folder: Path, overwrite: bool) -> None:
    """Measures, writes and prints a certificate. Raises ScenarioError before anything is measured."""
    from rich.console import Console
    from rich.markup import escape

    from experiments import results
    from experiments.certify import measuring, plot, report
    from experiments.study import prefixed
    from simulator import compilation

    compilation.keep()
    with prefixed(file) if file else nullcontext():
        plan = measuring.prepare(asked)
    results.versions()
    results.claim([folder], [file] if file else [], overwrite, mine=report.files)
    errors = Console(stderr=True)
    if errors.is_terminal:
        with errors.status("measuring") as status:
            findings = measuring.perform(plan, lambda text: status.update(escape(text)))
    else:
        findings = measuring.perform(plan, lambda text: typer.echo(text, err=True))
    written = [*report.write(folder, plan, findings), *plot.draw(folder, plan, findings)]
    console = Console(width=None if sys.stdout.isatty() else 140)
    report.show(plan, findings, console)
    for path in written:
        console.print(str(path), highlight=False, soft_wrap=True)


@app.command("list")
@_plainly
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table in Markdown, without the options.")] = False,
) -> None:
    """List what a scenario can name, with conditions, options and sources."""
    from rich.console import Console

    from experiments import listing

    if markdown:
        typer.echo(listing.markdown(kind.value))
        return
    Console(width=None if sys.stdout.isatty() else 140).print(listing.table(kind.value))


@app.command()
@_plainly
def schema() -> None:
    """Print the JSON Schema of a scenario; editors complete and check YAML files with it.

    Save it (byzax schema > byzax.json) and begin a scenario with: # yaml-language-server: $schema=byzax.json
    """
    from simulator.scenario import Scenario

    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Scenario.model_json_schema()}
    typer.echo(json.dumps(described, indent=2))


bench = typer.Typer(help="Measure speed on this machine, as ratios within one run.", no_args_is_help=True)
app.add_typer(bench, name="bench")
NUMBERS = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers here.")]


@bench.command("rules")
@_plainly
def bench_rules(
    rules: Annotated[
        list[str] | None, typer.Option("--rule", metavar="NAME", help="Only this one (may be repeated).")
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", metavar="N,F,D", help="Rows, Byzantine rows, parameters (may be repeated)."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls, of which the best counts.")] = 7,
    threads: Annotated[int | None, typer.Option(min=1, help="For XLA; by default one for each core.")] = None,
    plain: Annotated[
        bool, typer.Option(help="Measure the rules as usually written, in jax.numpy and NumPy, too.")
    ] = True,
    peers: Annotated[bool, typer.Option(help="Measure byzfl and byzpy too, where they are installed.")] = True,
    path: NUMBERS = None,
) -> None:
    """Time and memory of every rule beside the memory's speed, plain versions and other packages."""
    # XLA reads it when it starts
    os.environ["NPROC"] = str(threads or len(os.sched_getaffinity(0)))
    from experiments.benchmarks import peers as others
    from experiments.benchmarks import rules as benchmark

    found = sizes or [",".join(map(str, size)) for size in benchmark.SIZES]
    parsed = []
    for text in found:
        parts = text.replace("_", "").split(",")
        if (
            len(parts) != 3
            or not all(part.strip().isdigit() for part in parts)
            or not int(parts[0])
            or not int(parts[2])
        ):
            _refuse(f"--size {text}: three whole numbers N,F,D are needed, such as --size 25,5,100000")
        parsed.append(tuple(map(int, parts)))
    for name in rules or []:
        if name not in benchmark.names():
            near = difflib.get_close_matches(name, benchmark.names(), n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            _refuse(f"--rule {name}: {hint}there are: {', '.join(benchmark.names())}")
    if path is not None and not path.absolute().parent.is_dir():
        _refuse(f"--json {path}: there is no folder {path.parent}")
    installed = tuple(others.installed()) if peers else ()
    benchmark.run(parsed, rules or benchmark.names(), repeats, plain, installed, path, typer.echo)


@bench.command("training")
@_plainly
def bench_training(
    rules: Annotated[
        list[str] | None, typer.Option("--rule", metavar="NAME", help="Only this one (may be repeated).")
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", metavar="NAME", help="mlp or cnn (may be repeated); both by default.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Updates of a run; by default 200 for the mlp, 10 for the cnn.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs after the first one, of which the median counts.")] = 3,
    path: NUMBERS = None,
) -> None:
    """Updates per second of the three executors, beside the time of the gradients alone."""
    from experiments.benchmarks import training as benchmark

    for name in models or []:
        if name not in benchmark.MODELS:
            _refuse(f"--model {name}: there are: {', '.join(benchmark.MODELS)}")
    benchmark.run(rules or benchmark.RULES, models or list(benchmark.MODELS), steps, repeats, path, typer.echo)


def main() -> None:
    """The entry point."""
    app(prog_name="byzax")
