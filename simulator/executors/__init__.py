"""Executors: three ways to replay a timeline with the core; `session(executor)` gives what runs a task."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import numpy as np

from byzax.aggregators.base import LIMIT
from byzax.simulator import compilation, threads
from byzax.simulator.config.executors import EarlyStopping, ExecutorField
from byzax.simulator.config.study import Task
from byzax.simulator.executors.base import Checkpoint, RunError
from byzax.simulator.timeline import truncate

__all__ = ["Checkpoint", "RunError", "session"]

Execute = Callable[[Task], Iterator[Checkpoint]]


@contextmanager
def session(executor: ExecutorField, **where: Any) -> Iterator[Execute]:
    """What lives across the tasks of a grid: inside `with session(executor) as execute:` each `execute(task)` yields
    the checkpoints of the task's repeats, at every evaluation and in order of steps within a repeat.

    Args:
        executor: The one of all tasks.
        where: For `ray`, `address` of a cluster to join in place of an embedded one, and `notice`, which is told in one
            line what happens to a run that goes on, such as that workers were lost.
    """
    threads.start()
    module = importlib.import_module(f"byzax.simulator.executors.{executor.name}")
    with module.session(executor, **where) as execute:
        yield partial(_decided, execute)


def _decided(execute: Execute, task: Task) -> Iterator[Checkpoint]:
    """The checkpoints up to the one with an update in which the rule gave no answer. Raises RunError there.

    With early stopping a repeat ends with the checkpoint that says so.
    """
    compilation.make_room()
    how = task.early_stopping
    # one that was stopped must not keep the next one waiting
    for some in task.repeats if how and task.executor.name != "vectorised" else [task]:
        # of each seed the best value so far, and how many evaluations are worse since
        best: dict[int, tuple[float, int]] = {}
        over: set[int] = set()
        with closing(execute(some)) as checkpoints:  # pyright: ignore[reportArgumentType]
            for checkpoint in checkpoints:
                if checkpoint.seed in over:
                    continue
                if (places := np.flatnonzero(checkpoint.updates.undecided)).size:
                    update = checkpoint.step - len(checkpoint.updates.undecided) + places[0] + 1
                    raise RunError(
                        f"update {update} failed: {task.run.rule.label} is undecided, its search did not end within "
                        f"{LIMIT}"
                    )
                if how is not None and checkpoint.step < task.run.steps:
                    best[checkpoint.seed] = _better(how, best.get(checkpoint.seed), checkpoint)
                    if best[checkpoint.seed][1] >= how.patience:
                        checkpoint = _last(how, checkpoint)
                        over.add(checkpoint.seed)
                yield checkpoint
                if len(over) == len(some.seeds):
                    break


def _better(how: EarlyStopping, best: tuple[float, int] | None, checkpoint: Checkpoint) -> tuple[float, int]:
    value = getattr(checkpoint.evaluation, how.measure)
    gain = value if how.measure == "validation_accuracy" else -value
    # NaN is never better
    if best is None or gain > best[0] or (np.isnan(best[0]) and not np.isnan(gain)):
        return gain, 0
    return best[0], best[1] + 1


def _last(how: EarlyStopping, checkpoint: Checkpoint) -> Checkpoint:
    words = how.measure.replace("_", " ")
    reason = f"stopped early after step {checkpoint.step}: no better {words} in {how.patience} evaluations"
    timeline = None if checkpoint.timeline is None else truncate(checkpoint.timeline, checkpoint.step)
    return checkpoint._replace(stopped=reason, timeline=timeline)
