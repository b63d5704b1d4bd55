"""The commands `byzax bench rules`, `models`, `mesh`, `training`, `population`, `schedules` and `topologies`."""

# slow imports are inside the commands: `byzax --help` answers at once
import difflib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from byzax.experiments.refusing import QUIET, check_environment, refuse, report_errors, signal_outcome
from byzax.experiments.writing import check_replaceable
from byzax.simulator.mistakes import ScenarioError

bench = typer.Typer(help="Measure speed on this machine, as ratios within one run.", no_args_is_help=True)
NUMBERS = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers here.")]


@bench.command()
@report_errors
def rules(
    rule: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one; again for more.")] = None,
    size: Annotated[
        list[str] | None, typer.Option(metavar="N,F,D", help="Rows, Byzantine rows, parameters; again for more.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls, of which the best counts.")] = 7,
    threads: Annotated[int | None, typer.Option(min=1, help="For XLA; by default one for each core.")] = None,
    plain: Annotated[
        bool, typer.Option(help="Measure the rules as usually written, in jax.numpy and NumPy, too.")
    ] = True,
    peers: Annotated[bool, typer.Option(help="Measure byzfl and byzpy too, where they are installed.")] = True,
    path: NUMBERS = None,
    quiet: QUIET = False,
) -> None:
    """Time and memory of every rule beside the memory's speed, plain versions and other packages."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    from byzax.experiments.benchmarks import peers as others
    from byzax.experiments.benchmarks import rules as benchmark
    from byzax.simulator.threads import start_with

    start_with(threads or cores or 1)

    sizes = [_numbers(text) for text in size] if size else benchmark.SIZES
    for name in rule or []:
        if name not in benchmark.measured_names():
            near = difflib.get_close_matches(name, benchmark.measured_names(), n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            refuse(f"--rule {name}: {hint}there are: {', '.join(benchmark.measured_names())}")
    say = _say(path, quiet)
    installed = tuple(others.installed_peers()) if peers else ()
    chosen = list(dict.fromkeys(rule or benchmark.measured_names()))
    try:
        benchmark.run(list(dict.fromkeys(sizes)), chosen, repeats, plain, installed, path, say)
    except KeyboardInterrupt as end:
        _interrupted(path, end)


def _say(path: Path | None, quiet: bool) -> Callable[[str], None]:
    """The function for lines of a table. Refuses a file that cannot be written, and silence that leaves nothing."""
    _writable(path)
    if quiet and path is None:
        refuse("--quiet: prints nothing, and without --json FILE nothing would be left: give both")
    return (lambda text: None) if quiet else typer.echo


def _writable(path: Path | None) -> None:
    """Refuses a file that the numbers could not be written to after all the measuring."""
    if path is None:
        return
    if not path.absolute().parent.is_dir():
        refuse(f"--json {path}: there is no folder {path.parent}")
    try:
        check_replaceable(path, "--json")
    except ScenarioError as error:
        refuse(error)
    try:
        if path.is_file() or not path.exists():
            # the numbers are written beside it, and take its place
            tempfile.TemporaryFile(dir=path.resolve().parent).close()
        else:
            path.open("a").close()
    except OSError as error:
        refuse(f"--json {path}: cannot be written ({error.strerror}): name another file")


def _interrupted(path: Path | None, end: KeyboardInterrupt) -> NoReturn:
    word, code = signal_outcome(end)
    kept = f": what was measured is in {path}" if path and path.exists() else ""
    typer.echo(f"{word}{kept}", err=True)
    raise typer.Exit(code)


def _numbers(size: str) -> tuple[int, int, int]:
    try:
        n, f, d = map(int, size.split(","))
    except ValueError:
        n = f = d = -1
    if n < 1 or f < 0 or d < 1:
        refuse(f"--size {size}: three whole numbers N,F,D are needed, such as --size 25,5,100000")
    return n, f, d


@bench.command()
@report_errors
def models(
    model: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one; again for more.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Timed calls, of which the best counts.")] = 5,
    path: NUMBERS = None,
    quiet: QUIET = False,
) -> None:
    """CPU time of the gradients of the built-in models, beside that of their products at full speed."""
    from byzax.experiments.benchmarks import models as benchmark

    check_environment()
    say = _say(path, quiet)
    for name in model or []:
        if name not in benchmark.CASES:
            refuse(f"--model {name}: there are: {', '.join(benchmark.CASES)}")
    try:
        benchmark.run(list(dict.fromkeys(model or benchmark.CASES)), repeats, path, say)
    except KeyboardInterrupt as end:
        _interrupted(path, end)


@bench.command()
@report_errors
def mesh(
    model: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one; again for more.")] = None,
    rule: Annotated[str, typer.Option(metavar="NAME", help="The rule.")] = "trimmed_mean",
    attack: Annotated[str, typer.Option(metavar="NAME", help="The attack.")] = "little",
    shape: Annotated[
        list[str] | None, typer.Option(metavar="W,P", help="Parts of the workers, and of the parameters; again.")
    ] = None,
    path: NUMBERS = None,
    quiet: QUIET = False,
) -> None:
    """Memory that an update takes of each device of a mesh: model, memories of workers, and all that is in between."""
    from byzax.experiments.benchmarks import mesh as benchmark

    check_environment()
    say = _say(path, quiet)
    for name in model or []:
        if name not in benchmark.MODELS:
            refuse(f"--model {name}: there are: {', '.join(benchmark.MODELS)}")
    shapes = [_mesh_shape(text) for text in shape] if shape else benchmark.SHAPES
    try:
        benchmark.run(list(dict.fromkeys(model or benchmark.MODELS)), rule, attack, shapes, path, say)
    except ScenarioError as error:
        refuse(error)
    except KeyboardInterrupt as end:
        _interrupted(path, end)


def _mesh_shape(text: str) -> tuple[int, int]:
    try:
        workers, parameters = map(int, text.split(","))
    except ValueError:
        workers = parameters = 0
    if workers < 1 or parameters < 1:
        refuse(f"--shape {text}: two whole numbers W,P from 1 on are needed, such as --shape 2,4")
    return workers, parameters


@bench.command()
@report_errors
def training(
    rule: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one; again for more.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="mlp or cnn; again for more; by default both.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Updates of a run; by default 200 for the mlp, 60 for the cnn.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs after the first one, of which the median counts.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Number of workers.")] = 20,
    byzantine: Annotated[int, typer.Option(min=0, help="How many of them are Byzantine.")] = 4,
    batch: Annotated[int, typer.Option(min=1, help="Samples of a gradient.")] = 25,
    peers: Annotated[bool, typer.Option(help="Measure byzfl too, where it is installed.")] = True,
    path: NUMBERS = None,
    quiet: QUIET = False,
) -> None:
    """Updates per second of the three executors and of byzfl, beside the floor of the gradients' products."""
    from byzax.experiments.benchmarks import peers as others
    from byzax.experiments.benchmarks import training as benchmark

    check_environment()
    say = _say(path, quiet)
    for name in model or []:
        if name not in benchmark.MODELS:
            refuse(f"--model {name}: there are: {', '.join(benchmark.MODELS)}")
    rules, models = (list(dict.fromkeys(each)) for each in (rule or benchmark.RULES, model or benchmark.MODELS))
    if byzantine >= workers:
        refuse(f"--byzantine {byzantine}: leaves no honest worker of {workers} (--workers)")
    size = benchmark.Size(workers, byzantine, batch)
    measured_peers = peers and "byzfl" in others.installed_peers()
    try:
        benchmark.run(rules, models, size, steps, repeats, measured_peers, path, say)
    except ScenarioError as error:
        refuse(error)
    except KeyboardInterrupt as end:
        _interrupted(path, end)


@bench.command()
@report_errors
def population(
    clients: Annotated[int, typer.Option(min=20, help="Clients in all.")] = 1000,
    participants: Annotated[int, typer.Option(min=5, help="Clients of an update.")] = 50,
    steps: Annotated[int, typer.Option(min=1, help="Updates of a run.")] = 100,
    repeats: Annotated[int, typer.Option(min=1, help="Runs after the first one, of which the median counts.")] = 3,
    path: NUMBERS = None,
    quiet: QUIET = False,
) -> None:
    """Updates per second, and memory, where each update takes a few of many clients."""
    from byzax.experiments.benchmarks import population as benchmark

    check_environment()
    say = _say(path, quiet)
    if participants > clients:
        refuse(f"--participants {participants}: there are only {clients} clients (--clients)")
    try:
        benchmark.run(clients, participants, steps, repeats, path, say)
    except KeyboardInterrupt as end:
        _interrupted(path, end)


@bench.command()
@report_errors
def schedules(
    steps: Annotated[int, typer.Option(min=1, help="Updates of a run.")] = 400,
    repeats: Annotated[int, typer.Option(min=1, help="Runs after the first one, of which the median counts.")] = 3,
    workers: Annotated[int, typer.Option(min=3, help="Workers of the timelines that are planned.")] = 1000,
    updates: Annotated[int, typer.Option(min=1, help="Updates of the timelines that are planned.")] = 100_000,
    path: NUMBERS = None,
    quiet: QUIET = False,
) -> None:
    """Updates per second of each schedule in each executor, and how long planning a long timeline takes."""
    from byzax.experiments.benchmarks import schedules as benchmark

    check_environment()
    say = _say(path, quiet)
    try:
        benchmark.run(steps, repeats, workers, updates, path, say)
    except KeyboardInterrupt as end:
        _interrupted(path, end)


@bench.command()
@report_errors
def topologies(
    steps: Annotated[int, typer.Option(min=1, help="Updates of a run.")] = 50,
    repeats: Annotated[int, typer.Option(min=1, help="Runs after the first one, of which the median counts.")] = 3,
    path: NUMBERS = None,
    quiet: QUIET = False,
) -> None:
    """Updates per second and bits of topologies in each executor, beside one server and the gradients alone."""
    from byzax.experiments.benchmarks import topologies as benchmark

    check_environment()
    say = _say(path, quiet)
    try:
        benchmark.run(steps, repeats, path, say)
    except KeyboardInterrupt as end:
        _interrupted(path, end)


@bench.command()
@report_errors
def sharded(
    d: Annotated[int, typer.Option("-d", min=1, help="Number of parameters.")] = 20_000_000,
    n: Annotated[int, typer.Option("-n", min=1, help="Rows of an update.")] = 8,
    f: Annotated[int, typer.Option("-f", min=0, help="Rows that may be Byzantine.")] = 2,
    servers: Annotated[int, typer.Option(min=1, help="Servers, each an actor with a slice of the model.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Updates.")] = 2,
    rule: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one; again for more.")] = None,
    path: NUMBERS = None,
    quiet: QUIET = False,
) -> None:
    """Memory and time of servers that hold slices of a large model (topology sharded)."""
    from byzax import aggregators
    from byzax.experiments.benchmarks import sharded as benchmark

    check_environment()
    say = _say(path, quiet)
    names = list(dict.fromkeys(rule or benchmark.RULES))
    for name in names:
        try:
            form = aggregators.build(name, n, f).sharded
        except ValueError as error:
            refuse(f"--rule {name}: {error}")
        if form is None:
            refuse(f"--rule {name}: has no sharded form: take another rule, such as multi_krum")
    if servers > d:
        refuse(f"--servers {servers}: the model has {d} parameters (-d): take at most as many")
    try:
        benchmark.run(d, n, f, servers, steps, names, path, say)
    except KeyboardInterrupt as end:
        _interrupted(path, end)
