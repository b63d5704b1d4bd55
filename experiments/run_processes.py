"""Runs of a study side by side, each in one of several processes, with the numbers and files that one process gives."""

import os
import pickle
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import jax

from byzax.experiments import run_files
from byzax.experiments.entries import Entry
from byzax.experiments.locking import tell_jobs
from byzax.experiments.progress import Report
from byzax.experiments.run_groups import RunGroup
from byzax.experiments.writing import WriteError
from byzax.simulator import interrupts, snapshots, threads
from byzax.simulator.config.executors import devices_of
from byzax.simulator.config.part import function_of, parts_of
from byzax.simulator.config.study import Study
from byzax.simulator.executors import Snapshot, room
from byzax.simulator.executors.sharing import split
from byzax.simulator.mistakes import ScenarioError, quote
from byzax.simulator.parts import message_bits

# The executors whose runs take one core.
EXECUTORS = ("loop", "vectorised")
# Seconds of a run, and of the compilation of a cell, beside its arithmetic, and operations in a second: for a guess.
RUN_S, CELL_S, OPERATIONS = 0.05, 0.5, 2 * 10**10
# Seconds of work from which it is shared out: to start a process takes two or three.
WORTH_S = 15.0
# Seconds between two looks for a signal that Python swallowed.
LOOK_S = 1.0


class Worker(NamedTuple):
    """A process that executes runs.

    Attributes:
        process: The process.
        group: The group that it executes; the last one where there are no more.
        left: The runs of it that have not ended, by seed.
    """

    process: "subprocess.Popen[bytes]"
    group: RunGroup
    left: dict[int, Entry]


def check(scenarios: Iterable[Study], jobs: int | None) -> None:
    """Checks that runs can be executed in so many processes.

    Args:
        scenarios: The cells of their grids.
        jobs: Number of processes that was asked for; None where it was not.

    Raises:
        ScenarioError: Where they cannot.
    """
    if jobs is None:
        return
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise ScenarioError(f"jobs: a number of processes from 1 on is needed, got {quote(jobs)}")
    if jobs == 1:
        return
    scenarios = list(scenarios)
    # before JAX is asked, and starts: a mesh needs its devices
    threads.start(max((devices_of(scenario.executor) for scenario in scenarios), default=1))
    if jax.default_backend() != "cpu":
        raise ScenarioError(f"jobs: {jobs} processes cannot share a {jax.default_backend()}: leave it out, or take 1")
    if all(scenario.executor.name not in EXECUTORS for scenario in scenarios):
        raise ScenarioError("jobs: executor ray has processes of its own (executor.actors): leave it out, or take 1")
    for scenario in scenarios:
        if key := _unknown_elsewhere(scenario):
            raise ScenarioError(
                f"jobs: {key} is a function of the running program, which other processes do not know: put it into a "
                "file and name it FILE:NAME, or take 1"
            )


def _unknown_elsewhere(scenario: Study) -> str:
    """The key of a part that another process cannot make; empty for none."""
    for key, part in parts_of(scenario):
        if function_of(part).__module__ == "__main__":
            return key
        try:
            pickle.dumps(part.given())
        except Exception:  # pickle raises what it likes
            return key
    return ""


def count(groups: Sequence[RunGroup], jobs: int | None) -> int:
    """The number of processes for runs of one executor.

    Args:
        groups: The groups of runs.
        jobs: Number that was asked for; None for one for each core, as far as memory goes and the work is worth it.

    Returns:
        The number; 1 for this process alone.
    """
    if groups[0].scenario.executor.name not in EXECUTORS or jax.default_backend() != "cpu":
        return 1
    if jobs is not None:
        return min(jobs, len(groups))
    # a process of a mesh has a thread for each device
    most = min(room.cores() // (threads.requested() * devices_of(groups[0].scenario.executor)), len(groups))
    cells = {(group.folder, group.cell): group.scenario for group in groups}
    if most < 2 or any(map(_unknown_elsewhere, cells.values())):
        return 1
    sizes = {key: message_bits(scenario.run) // 32 for key, scenario in cells.items()}
    work = sum(
        6 * sizes[group.folder, group.cell] * group.scenario.data.batch_size * group.scenario.workers.total
        * group.scenario.steps * len(group.runs)
        for group in groups
    )  # fmt: skip
    if RUN_S * len(groups) + CELL_S * len(cells) + work / OPERATIONS < WORTH_S:
        return 1
    free = room.free_bytes()
    each = max(room.bytes_alone(scenario.task) for scenario in cells.values())
    return most if free is None else max(1, min(most, free // each))


def alone(groups: Sequence[RunGroup]) -> bool:
    """Tells whether runs of one executor can be executed in processes other than this one.

    Args:
        groups: The groups of runs.

    Returns:
        False on a GPU, with Ray, and where a part is a function of the running program.
    """
    if groups[0].scenario.executor.name not in EXECUTORS or jax.default_backend() != "cpu":
        return False
    return not any(_unknown_elsewhere(group.scenario) for group in groups)


def execute(
    groups: Sequence[RunGroup],
    jobs: int,
    report: Report,
    hidden: Sequence[str] = (),
    in_order: bool = False,
    retries: int = 0,
) -> bool:
    """Executes groups of runs in other processes. Those of a cell are executed by one of them, as far as that goes.

    A run whose process dies is executed again, from its last snapshot, and has failed where that was done so often
    already; the others go on. A KeyboardInterrupt passes on, with the files in order.

    Args:
        groups: The groups, of one run each.
        jobs: Number of processes.
        report: The progress report.
        hidden: Fields of the evaluations that are not written.
        in_order: Whether groups begin in the order given, whatever a process has compiled.
        retries: Times that a run whose process died is executed again.

    Returns:
        Whether every run was completed with all its workers.

    Raises:
        WriteError: Where results cannot be written; files before are in order.
    """
    waiting = deque(groups)
    next_new = (lambda _: waiting.popleft() if waiting else None) if in_order else _build_next(groups)
    # the groups whose process died, and how often each of their runs was begun again
    again: deque[RunGroup] = deque()
    begun_again: Counter[tuple[Path, str]] = Counter()
    workers: dict[Connection, Worker] = {}
    complete = True
    report.starting(f"{groups[0].scenario.executor.name} in {jobs} processes")
    folders = {group.folder for group in groups}
    for folder in folders:
        tell_jobs(folder, jobs)

    def next_group(before: RunGroup | None) -> RunGroup | None:
        group = next_new(before)
        return again.popleft() if group is None and again else group

    def retry(worker: Worker) -> bool:
        """Puts the runs of a process that died into a group of their own, unless one was retried often enough."""
        group = worker.group
        runs = [(group.folder, run.slug) for run in worker.left.values()]
        if retries <= max(begun_again[run] for run in runs):
            return False
        begun_again.update(runs)
        for run in worker.left.values():
            report.notice(f"{run.slug}: {_death(worker)}: it is run again ({begun_again[runs[0]]} of {retries})")
        again.append(group._replace(runs=dict(worker.left), snapshots=_snapshots(group.folder, worker.left)))
        return True

    def take(connection: Connection, worker: Worker, message: tuple[str, Any]) -> None:
        nonlocal complete
        kind, value = message
        if kind == "ended":
            complete &= value
            group = next_group(worker.group)
            _send(connection, group)
            workers[connection] = worker if group is None else Worker(worker.process, group, dict(group.runs))
        elif kind == "begin":
            report.begin(worker.group.runs.values(), worker.group.scenario.steps)
        elif kind == "cannot write":
            raise WriteError(value)
        elif kind == "notice":
            report.notice(value)
        else:
            seed, what = value
            run = worker.group.runs[seed]
            if kind != "advance":
                del worker.left[seed]
            {"advance": report.advance, "done": report.done, "failed": report.failed}[kind](run, what)

    def look() -> None:
        nonlocal complete
        for connection in wait([*workers], LOOK_S):
            assert isinstance(connection, Connection)
            try:
                message = connection.recv()
            except (EOFError, OSError):
                worker = workers.pop(connection)
                connection.close()
                worker.process.wait()
                if worker.left and not retry(worker):
                    complete = False
                    _fail(worker, report, hidden)
            else:
                take(connection, workers[connection], message)

    try:
        while True:
            interrupts.check()
            while len(workers) < jobs and (group := next_group(None)) is not None:
                process, connection = _start(hidden)
                workers[connection] = Worker(process, group, dict(group.runs))
                _send(connection, group)
            if not workers:
                return complete
            look()
    finally:
        _end(workers, take)
        for folder in folders:
            tell_jobs(folder, 1)


def _build_next(groups: Sequence[RunGroup]) -> Callable[[RunGroup | None], RunGroup | None]:
    """Builds a function that gives the next group for a process that has just executed another one of them.

    It is of the same cell; else of a cell that differs in numbers alone, whose functions are compiled there too; else
    of one that nobody has begun; else of the one with most groups left.
    """
    cells: dict[Any, deque[RunGroup]] = {}
    forms: dict[Any, Any] = {}
    # the cells that nobody has begun
    fresh: dict[Any, deque[Any]] = {}
    for group in groups:
        key = group.folder, group.cell
        if key not in cells:
            cells[key] = deque()
            forms[key], _ = split(group.scenario.run)
            fresh.setdefault(forms[key], deque()).append(key)
        cells[key].append(group)

    def begin(form: Any) -> RunGroup:
        key = fresh[form].popleft()
        if not fresh[form]:
            del fresh[form]
        begun.add(form)
        return cells[key].popleft()

    begun: set[Any] = set()

    def next_group(before: RunGroup | None) -> RunGroup | None:
        key = before and (before.folder, before.cell)
        if key and cells[key]:
            return cells[key].popleft()
        if key and forms[key] in fresh:
            return begin(forms[key])
        if fresh:
            return begin(
                next((form for form in fresh if form not in begun), max(fresh, key=lambda form: len(fresh[form])))
            )
        longest = max(cells.values(), key=len)
        return longest.pop() if longest else None

    return next_group


def _start(hidden: Sequence[str]) -> "tuple[subprocess.Popen[bytes], Connection]":
    here, there = Pipe()
    # what decides the numbers here decides them there
    double = str(int(jax.config.jax_enable_x64))  # pyright: ignore[reportAttributeAccessIssue]
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_ENABLE_X64": double}
    # Ctrl-C comes to all processes of a terminal, and this one tells the others; they have it blocked from the start
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with there:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "byzax.experiments.run_process", str(there.fileno()), *hidden],
                stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                env=os.environ | environment,
            )
    except BaseException:
        here.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process, here


def _send(connection: Connection, group: RunGroup | None) -> None:
    """Gives a process its next group, or tells it that there is none."""
    message = None
    if group is not None:
        # not the study itself: it would come back with other names of the user's own files
        runs = {seed: run._replace(scenario=run.scenario.given()) for seed, run in group.runs.items()}  # pyright: ignore[reportArgumentType]
        message = group._replace(scenario=group.scenario.given(), runs=runs)  # pyright: ignore[reportArgumentType]
    # where it died the end of the connection says so
    with suppress(OSError):
        connection.send(message)


def _death(worker: Worker) -> str:
    """The way in which a process ended, in words."""
    code = worker.process.returncode
    why = f"ended with exit code {code}"
    if code < 0:
        why = f"was killed by signal {-code}"
        if -code == signal.SIGKILL:
            why += ", as where memory runs out: jobs=1 (--jobs 1) takes less"
    return f"its process {why}"


def _snapshots(folder: Path, runs: Mapping[int, Entry]) -> dict[int, Snapshot]:
    """The last snapshots of runs, by seed, of those that have one."""
    held: dict[int, Snapshot] = {}
    for seed, run in runs.items():
        path = folder / "runs" / run.slug / run_files.SNAPSHOT
        # a damaged one is no reason to fail: the run begins again
        with suppress(ValueError, OSError):
            held[seed] = snapshots.load(path)
    return held


def _fail(worker: Worker, report: Report, hidden: Sequence[str]) -> None:
    """Ends the runs of a process that died."""
    reason = _death(worker)
    for run in worker.left.values():
        if not (worker.group.folder / "runs" / run.slug).exists():
            run_files.begin(worker.group.folder, run)
        run_files.finish(worker.group.folder, run, [], "failed", reason, hidden)
        report.failed(run, reason)


def _end(workers: dict[Connection, Worker], take: Callable[[Connection, Worker, tuple[str, Any]], None]) -> None:
    """Ends processes that are at work, and waits until their files are in order."""
    for worker in workers.values():
        worker.process.send_signal(signal.SIGTERM)
    for connection, worker in workers.items():
        with connection, suppress(EOFError, OSError, WriteError):
            while True:
                kind, value = connection.recv()
                # a run that ended just then
                if kind in ("done", "failed"):
                    take(connection, worker, (kind, value))
        worker.process.wait()
    workers.clear()
