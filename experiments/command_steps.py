"""The steps that `byzax run` and `byzax tune` share: files read and checked, folders held, studies run."""

# jax, ray, pandas and matplotlib are imported inside the functions: `byzax --help` answers at once
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import typer

from byzax.experiments.refusing import check_environment, refuse, signal_outcome
from byzax.simulator.mistakes import ScenarioError, prefix_errors


def collect_overrides(settings: list[str] | None, options: dict[str, str | None]) -> list[str]:
    """Collects the overrides of a scenario, after checks of the environment and of empty options.

    Args:
        settings: Texts `key=value`, in order.
        options: The values of other options, by option.

    Returns:
        The overrides, in order.
    """
    check_environment()
    for option, value in options.items():
        if value is not None and not value.strip():
            refuse(f"{option}: is empty: give it a value, or leave it out")
    executor = options["--executor"]
    return [*(settings or []), *([f"executor.name={executor}"] if executor else [])]


def read_files(
    files: Sequence[Path], out: str | None, settings: Sequence[str] | None, overwrite: bool, ending: str = ""
) -> list[dict[str, Any]]:
    """Reads files before anything slow is imported, so that mistakes in YAML and unusable output folders end at once.

    Args:
        files: The files.
        out: Value of `--out`.
        settings: Overrides, which may give a study another name.
        overwrite: Whether results may be removed.
        ending: End of the name of an output folder that is called after its study.

    Returns:
        The content of each file.

    Raises:
        ScenarioError: For such a mistake or folder.
    """
    from byzax.experiments import outputs
    from byzax.experiments.strict_yaml import read_mapping

    raws = [read_mapping(path) for path in files]
    if any("extends" in raw for raw in raws):
        from byzax.experiments.study import read_scenario

        raws = [read_scenario(path) for path in files]
    names = [str(raw.get("name", "")) for raw in raws]
    name_is_final = out or not any(text.strip().startswith("name") for text in settings or [])
    if name_is_final and (out or all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}", name) for name in names)):
        kind = "tuning" if ending else "study"
        outputs.check(output_folders(files, names, out, ending), files, overwrite, kind, goes_on=True)
    return raws


def output_folders(files: Sequence[Path], names: Sequence[str], out: str | None, ending: str = "") -> list[Path]:
    """The output folder of each file.

    Args:
        files: The files.
        names: The name of the study in each.
        out: Value of `--out`.
        ending: End of the name of a folder that is called after its study.

    Returns:
        The folders.

    Raises:
        ScenarioError: Where two files have the same one.
    """
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


def check_studies(studies: list[Any], ray_address: str | None, jobs: int | None = None) -> list[Any]:
    """Checks studies and prints notes about them.

    Args:
        studies: The studies.
        ray_address: Address of a Ray cluster; None for none.
        jobs: Number of processes that was asked for; None where it was not.

    Returns:
        The studies without skipped combinations.

    Raises:
        ScenarioError: Where a study cannot be run.
    """
    from rich.console import Console

    from byzax.experiments.notes import notes
    from byzax.experiments.progress import can_animate
    from byzax.experiments.run_processes import check as check_jobs
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
        _start(studies)
        versions()
        check_jobs([cell.study for each in studies for cell in each.cells], jobs)
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


def _start(studies: list[Any]) -> None:
    """Starts JAX. Raises ScenarioError where runs need several numbers of devices, of which a process has one."""
    from byzax.simulator import threads
    from byzax.simulator.config.executors import devices_of

    needed = sorted({devices_of(cell.study.executor) for each in studies for cell in each.cells})
    if len(needed) > 1:
        raise ScenarioError(
            f"executor.mesh: the runs of one command have one number of devices, got {needed}: take several commands"
        )
    threads.start(*needed)


def _room(studies: list[Any]) -> list[str]:
    """Notes about processes that share cores. Raises ScenarioError where this machine has no room for them."""
    from byzax.simulator.executors import room

    messages = []
    for each in studies:
        with prefix_errors(each.source):
            lines = dict.fromkeys(room.check(c.study.task) for c in each.cells if c.study.executor.name == "ray")
        messages += [f"{each.source}: note: {line}" for line in lines if line]
    return messages


def _reach(address: str) -> None:
    """Raises ScenarioError where nothing answers at `HOST:PORT`: Ray itself would try for minutes."""

    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ScenarioError(f"--ray-address {address}: no cluster answers there ({error.strerror or error})") from None


@contextmanager
def opened_folders(
    folders: Sequence[Path],
    studies: Sequence[Any],
    files: Sequence[Path],
    overwrite: bool,
    retry_failed: bool,
    kind: Any = "study",
) -> Iterator[list[Any]]:
    """Holds the folders of studies, and prints lines about the runs that are there.

    Args:
        folders: The folders.
        studies: The study of each.
        files: The files of the studies, which are never removed.
        overwrite: Whether results that are there are removed.
        retry_failed: Whether failed runs are run again.
        kind: The kind of results.

    Yields:
        The runs of each study that are there.
    """
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


def perform(
    studies: list[tuple[Any, Path, Any]],
    ray_address: str | None,
    quiet: bool,
    measure: str | None = None,
    hidden: Sequence[str] = (),
    jobs: int | None = None,
    shuffle: bool = False,
    retries: int = 0,
) -> int:
    """Runs studies, each in its folder with the runs that are there.

    Args:
        studies: Each study, its folder, and its runs that are there.
        ray_address: Address of a Ray cluster; None for none.
        quiet: Whether no progress is shown.
        measure: The score in the progress; None for the test accuracy or loss.
        hidden: Fields of the evaluations that are not written.
        jobs: Number of processes side by side; None for one for each core where that is worth it.
        shuffle: Whether the first seed of all combinations comes first, in random order, then the second, ...
        retries: Times that a run whose process died is executed again.

    Returns:
        The exit code.
    """
    from rich.console import Console

    from byzax.experiments import progress, run_groups, running
    from byzax.experiments.writing import WriteError
    from byzax.simulator.executors import SessionLost

    groups = [group for each in studies for group in run_groups.group_runs(*each)]
    if shuffle:
        groups = run_groups.scattered(groups, studies[0][0].study.seed)
    failed = any(standing.failed for _, _, standing in studies)
    if not groups:
        return int(failed)
    count = sum(len(group.runs) for group in groups)
    updates = sum(group.scenario.steps * len(group.runs) for group in groups)
    try:
        with progress.report(Console(stderr=True), count, updates, measure, quiet) as report:
            complete = running.execute_groups(groups, ray_address, report, hidden, jobs, shuffle, retries)
            return 0 if complete and not failed else 1
    except KeyboardInterrupt as end:
        word, code = signal_outcome(end)
        typer.echo(f"{word}: what is done is kept", err=True)
        return code
    except WriteError as error:
        typer.echo(f"{error}: what is done is kept", err=True)
        return 1
    except SessionLost as error:
        typer.echo(f"{error}: what is done is kept, and the same command goes on when it is back", err=True)
        return 1


def foresee(studies: Sequence[Any], folders: Sequence[Path], retry_failed: bool, jobs: int | None) -> None:
    """Prints the runs of studies, how many are there, and an estimate of the time of the others. Writes nothing.

    Args:
        studies: The studies.
        folders: The folder of each.
        retry_failed: Whether failed runs would be run again.
        jobs: Number of processes side by side; None for one for each core where that is worth it.

    Raises:
        ScenarioError: Where another run is there under the name of one of a study.
    """
    from byzax.experiments import estimating, resuming, run_groups, run_processes
    from byzax.simulator.executors.base import RunError

    for study, folder in zip(studies, folders, strict=True):
        standing = resuming.compare(folder, study, retry_failed)
        for line in estimating.lines(study, folder, standing):
            typer.echo(line)
        groups = run_groups.group_runs(study, folder, standing)
        side_by_side = run_processes.count(groups, jobs) if groups else 1
        try:
            words = estimating.estimate_line(estimating.estimate(study, standing), side_by_side)
        except RunError as error:
            words = f"no estimate of the time: a run would fail: {error}"
        typer.echo(f"{folder}: {words}")
