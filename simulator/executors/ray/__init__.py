"""Ray actors: workers, adversary and parameter server. Only the files of this folder import ray."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Read when ray is imported. What failed is said once, by the run that needed it: not again for each update that depends
# on it, and not with a screenful on standard output for each process that ended.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "worker died or was killed|killed due to memory pressure")

import ray
from ray.exceptions import RayError, RayTaskError

from byzax.simulator.config.executors import Ray
from byzax.simulator.config.study import Task
from byzax.simulator.executors.base import Checkpoint, RunError, ended
from byzax.simulator.executors.ray.planned import can_stream, compiled, streamed, submitted
from byzax.simulator.executors.ray.pool import (
    ActorPool,
    carry_functions,
    causes,
    clean_up,
    connect,
    dismiss,
    fill,
    forget_graphs,
    hosting,
    line,
    not_answering,
)
from byzax.simulator.executors.ray.raced import observed
from byzax.simulator.executors.ray.repeat import configure


@contextmanager
def session(
    executor: Ray, address: str | None = None, notice: Callable[[str], None] = lambda text: None
) -> Iterator[Any]:
    """Starts Ray (or joins the cluster at `address`, if given) and ends at the close what was started here.

    The actors live across the runs of a grid; one that died is replaced before the next run. Raises RunError where Ray
    does not start or no cluster answers. `notice` is told, in one line, what happens to a run that goes on.
    """
    started = not ray.is_initialized()
    embedded = connect(address) if started else None
    pool = ActorPool({}, {}, [])
    try:
        yield lambda task: _run(pool, task, notice)
    finally:
        dismiss(pool, list(pool.actors))
        if started:
            ray.shutdown()
        if embedded is not None:
            clean_up(embedded, keep_logs=bool(pool.dead))


def _run(pool: ActorPool, task: Task, notice: Callable[[str], None]) -> Iterator[Checkpoint]:
    count = hosting(task)
    fill(pool, count)
    carry_functions(task.run)
    for each in task.repeats:
        finished = False
        try:
            repeat = configure(pool, count, each)
            if task.run.clock == "wall":
                yield from observed(pool, repeat, notice)
                finished = True
                continue
            yield from (streamed(repeat, compiled(pool, repeat)) if can_stream(repeat) else submitted(repeat))
            finished = True
            ended(repeat.timeline)
        except RayTaskError as error:
            if isinstance(error.cause, RayError):
                raise RunError(_deaths(pool, error.cause)) from None
            if isinstance(error.cause, RunError):
                raise error.cause from None
            raise RunError(f"{type(error.cause).__name__}: {line(error.cause)}") from None
        except RayError as error:
            raise RunError(_deaths(pool, error)) from None
        finally:
            if not finished:
                # what is still under way in a graph would come out in the next run
                forget_graphs(pool)


def _deaths(pool: ActorPool, error: RayError) -> str:
    missing = not_answering(pool)
    if not missing:
        return f"Ray: {type(error).__name__}: {line(error)}"
    pool.dead.append(causes(missing))
    return (
        f"{' and '.join(missing)} died in the middle of the run: {causes(missing)}; the next run starts with a new one"
    )
