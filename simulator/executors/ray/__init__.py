"""Ray actors: workers, adversary and parameter server. Only the files of this folder import ray."""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

# Read when ray is imported. What failed is said once, by the run that needed it: not again for each update that depends
# on it, and not with a screenful on standard output for each process that ended.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "worker died or was killed|killed due to memory pressure")

import ray
from ray.exceptions import RayError, RayTaskError

from byzax.simulator.config.executors import Ray
from byzax.simulator.config.study import Task
from byzax.simulator.engine import Engine, EngineLost, Repeats, State
from byzax.simulator.executors.base import RunError
from byzax.simulator.executors.ray import planned, raced, raced_rounds
from byzax.simulator.executors.ray.head import LOOK_S, Head, check_head, clean_up, connect, line, lost_head
from byzax.simulator.executors.ray.pool import (
    ActorPool,
    carry_functions,
    causes,
    dismiss,
    fill,
    forget_lines,
    hosting,
    not_answering,
    others,
    worker_name,
)
from byzax.simulator.parts import topology


@contextmanager
def session(
    executor: Ray, address: str | None = None, notice: Callable[[str], None] = lambda text: None
) -> Iterator[Any]:
    """Starts Ray (or joins the cluster at `address`, if given) and ends at the close what was started here.

    The actors live across the runs of a grid; one that died is replaced. Raises RunError where Ray does not start or no
    cluster answers. `notice` is told, in one line, what happens to a run that goes on.
    """
    started = not ray.is_initialized()
    embedded = connect(address) if started else None
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    head = Head(embedded, (host, int(port)) if started and embedded is None else None)
    pool = ActorPool({}, {}, [], head, itertools.count())
    try:
        yield lambda task: _repeats(pool, task, notice)
    finally:
        if not lost_head(pool.head):
            dismiss(pool, list(pool.actors))
        if started:
            ray.shutdown()
        if pool.head.embedded is not None:
            clean_up(pool.head.embedded, keep_logs=bool(pool.dead))


def _repeats(pool: ActorPool, task: Task, notice: Callable[[str], None]) -> Iterator[Repeats]:
    carry_functions(task.run)
    races = task.run.clock == "wall"
    for each in task.repeats:
        yield Repeats(each.seeds, lambda states, each=each: _engine(pool, each, states, notice), mortal=not races)


def _engine(pool: ActorPool, task: Task, states: Sequence[State] | None, notice: Callable[[str], None]) -> Engine:
    races = task.run.clock == "wall"
    state = states[0] if states else None

    def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*given: Any) -> Any:
            with _translated(pool, races):
                made = function(*given)
            return guarded(made) if callable(made) else made

        return call

    looked_s = time.monotonic()

    def advance(stop: int) -> int:
        nonlocal looked_s
        # actors may go on for a while without Ray's head, which ends this process a minute later
        if time.monotonic() - looked_s > LOOK_S:
            check_head(pool.head)
            looked_s = time.monotonic()
        return made.advance(stop)

    def begin() -> Engine:
        count = hosting(task)
        fill(pool, [*map(worker_name, range(count)), *others(task)])
        if not races:
            return planned.engine(pool, count, task, state)
        racing = raced if topology(task.run).rounds is None else raced_rounds
        return racing.engine(pool, count, task, notice)

    def close(finished: bool) -> None:
        if not finished:
            # what is still under way would come out in the next run
            forget_lines(pool)

    with _translated(pool, races):
        made = begin()
    return made._replace(
        advance=guarded(advance),
        evaluate=guarded(made.evaluate),
        since=guarded(made.since),
        states=made.states and guarded(made.states),
        close=close,
    )


@contextmanager
def _translated(pool: ActorPool, races: bool) -> Iterator[None]:
    """Turns what Ray raises into a RunError, or an EngineLost where a planned run can go on with other actors."""
    try:
        yield
    except EngineLost as error:
        raise (RunError(str(error)) if races else error) from None
    except RayTaskError as error:
        if isinstance(error.cause, RayError):
            raise _lost(pool, error.cause, races) from None
        if isinstance(error.cause, RunError):
            raise error.cause from None
        raise RunError(f"{type(error.cause).__name__}: {line(error.cause)}") from None
    except RayError as error:
        raise _lost(pool, error, races) from None


def _lost(pool: ActorPool, error: RayError, races: bool) -> RunError | EngineLost:
    try:
        missing = not_answering(pool)
    except EngineLost as lost:
        return RunError(str(lost)) if races else lost
    if not missing:
        return RunError(f"Ray: {type(error).__name__}: {line(error)}")
    pool.dead.append(causes(missing))
    names = f"{' and '.join(missing)} died: {causes(missing)}"
    return RunError(f"{names}; the next run starts with a new one") if races else EngineLost(names)
