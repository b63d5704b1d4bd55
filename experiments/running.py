"""Execution of studies: one session for consecutive runs with the same executor, files written as runs go on."""

import itertools
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from byzax.experiments import run_files, run_processes
from byzax.experiments.entries import Entry
from byzax.experiments.names import one_line
from byzax.experiments.progress import Report
from byzax.experiments.run_groups import RunGroup
from byzax.experiments.run_logs import RunLogs
from byzax.experiments.writing import WriteError
from byzax.simulator import interrupts
from byzax.simulator.executors import Checkpoint, Execute, Saving, SessionLost, session


def execute_groups(
    todo: Sequence[RunGroup],
    address: str | None,
    report: Report,
    hidden: Sequence[str] = (),
    jobs: int | None = 1,
    in_order: bool = False,
    retries: int = 0,
) -> bool:
    """Executes groups of runs and writes their files.

    A KeyboardInterrupt passes on, with the files in order.

    Args:
        todo: The groups.
        address: Address of a Ray cluster; None for none.
        report: The progress report.
        hidden: Fields of the evaluations that are not written.
        jobs: Number of processes side by side; None for one for each core where that is worth it.
        in_order: Whether processes begin groups in the order given, whatever they have compiled.
        retries: Times that a run whose process died is executed again; with it runs have processes of their own.

    Returns:
        Whether every run was completed with all its workers.

    Raises:
        WriteError: Where results cannot be written; files before are in order.
        SessionLost: Where the Ray cluster that was joined is gone; files are in order, later runs have not begun.
    """
    complete = True
    for executor, some in itertools.groupby(todo, key=lambda group: group.scenario.executor):
        groups = list(some)
        count = run_processes.count(groups, jobs)
        if count > 1 or (retries and run_processes.alone(groups)):
            complete &= run_processes.execute(groups, count, report, hidden, in_order, retries)
            continue
        where: dict[str, Any] = {"address": address} if executor.name == "ray" else {}
        with ExitStack() as stack:
            report.starting(executor.name)
            try:
                execute = stack.enter_context(session(executor, notice=report.notice, **where))
            except Exception as error:
                interrupts.check()
                reason, trace = f"{executor.name} did not start: {error}", traceback.format_exc()
                for group in groups:
                    complete = False
                    _fail(group.runs, group.folder, {}, report, reason, trace, hidden)
                continue
            for group in groups:
                interrupts.check()
                complete &= _execute_group(group, execute, report, hidden)
    return complete


def _execute_group(group: RunGroup, execute: Execute, report: Report, hidden: Sequence[str]) -> bool:
    by_seed: dict[int, list[Checkpoint]] = {}
    ended: set[int] = set()
    interrupt: type[KeyboardInterrupt] | SessionLost | None = None
    full = ""
    whole = True
    logs = RunLogs(group.folder, report.notice)
    try:
        for seed, run in group.runs.items():
            if seed in group.snapshots:
                by_seed[seed] = run_files.resume(group.folder, run, group.snapshots[seed])
            else:
                run_files.begin(group.folder, run)
        report.begin(group.runs.values(), group.scenario.steps)
        for seed, run in group.runs.items():
            logs.begin(run, seed in group.snapshots)
        task = group.scenario.task._replace(seeds=tuple(group.runs))
        with closing(execute(task, group.snapshots, _saving(group))) as checkpoints:  # pyright: ignore[reportArgumentType]
            for checkpoint in checkpoints:
                run, history = group.runs[checkpoint.seed], by_seed.setdefault(checkpoint.seed, [])
                logs.record(run, checkpoint.step, run_files.record(group.folder, run, checkpoint, hidden))
                # only the last model and timeline are kept: one for each evaluation may not fit into memory
                history[-1:] = [each._replace(params=np.empty(0), timeline=None) for each in history[-1:]]
                history.append(checkpoint)
                report.advance(run, checkpoint)
                if checkpoint.step == group.scenario.steps or checkpoint.stopped:
                    status = run_files.final_status(checkpoint)
                    run_files.finish(group.folder, run, history, status, checkpoint.stopped or None, hidden)
                    logs.end(run, status)
                    ended.add(checkpoint.seed)
                    report.done(run, checkpoint)
                    whole &= status == "complete"
                interrupts.check()
    except KeyboardInterrupt as error:
        interrupt = type(error)
    except SessionLost as error:
        # other runs could not be carried out either
        interrupt = SessionLost(*error.args)
    except WriteError as error:
        # other runs could not be written either
        full = str(error)
    except Exception as error:
        # JAX replaces exceptions that are raised while it calls Python
        interrupt = interrupts.pending()
        if interrupt is None:
            left = {seed: run for seed, run in group.runs.items() if seed not in ended}
            for run in left.values():
                logs.end(run, "failed")
            _fail(
                left, group.folder, by_seed, report, str(error) or type(error).__name__, traceback.format_exc(), hidden
            )
            return False
    if full:
        for run in group.runs.values():
            logs.end(run, "interrupted")
        raise WriteError(full)
    if interrupt is None:
        return whole
    for seed, run in group.runs.items():
        history = by_seed.get(seed, [])
        # a run that had not begun leaves no folder
        if seed in ended or not (group.folder / "runs" / run.slug).exists():
            continue
        # the signal may have come while a run that had made all its updates was written
        last = history[-1] if history and (history[-1].step == group.scenario.steps or history[-1].stopped) else None
        why = str(interrupt) if isinstance(interrupt, SessionLost) else None
        status, reason = (run_files.final_status(last), last.stopped or None) if last else ("interrupted", why)
        run_files.finish(group.folder, run, history, status, reason, hidden)
        logs.end(run, status)
    # a new one: the frames of the other's traceback hold buffers of Ray, and the process crashes (seen in half of the
    # interrupts) where they outlive Ray's end
    raise interrupt


def _saving(group: RunGroup) -> Saving | None:
    """The taking of snapshots that a scenario asks for."""
    how = group.scenario.snapshots
    if how is None:
        return None
    return Saving(
        lambda seed, snapshot: run_files.save_snapshot(group.folder, group.runs[seed], snapshot), how.every_s, how.every
    )


def _fail(
    runs: Mapping[int, Entry],
    folder: Path,
    by_seed: dict[int, list[Checkpoint]],
    report: Report,
    reason: str,
    trace: str,
    hidden: Sequence[str],
) -> None:
    for seed, run in runs.items():
        if not (folder / "runs" / run.slug).exists():
            run_files.begin(folder, run)
        run_files.finish(folder, run, by_seed.get(seed, []), "failed", one_line(reason), hidden, trace)
        report.failed(run, one_line(reason))
