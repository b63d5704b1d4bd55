"""The reference executor: one update after the other, one worker after the other, in this process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator import compilation, interrupts
from byzax.simulator.config.executors import Loop
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Update
from byzax.simulator.engine import Engine, Look, Repeats, State, TakeLooks, leaves_of, no_rows, restored, stretch_of
from byzax.simulator.executors.base import (
    Checkpoint,
    Prepared,
    arrived,
    ended,
    floats,
    in_numpy,
    prepare,
    stage,
)
from byzax.simulator.executors.driver import drive
from byzax.simulator.serving import Server, public_state
from byzax.simulator.timeline import Timeline
from byzax.simulator.world import World, world


class States(NamedTuple):
    """The states of all that take part in a run.

    Attributes:
        step: Updates so far.
        server: That of the server.
        adversary: That of the adversary.
        memories: Those of the workers; empty where they have none.
        rows: The rows that are computed and not applied yet, by their places in the timeline.
    """

    step: int
    server: Server
    adversary: Any
    memories: list[Any]
    rows: dict[int, jax.Array]


@contextmanager
def session(executor: Loop):
    """Nothing lives across runs here. See `byzax.simulator.executors.session`."""
    yield repeats


def repeats(task: Task) -> Iterator[Repeats]:
    """The repeats of a task, one after the other."""
    for each in task.repeats:
        yield Repeats(each.seeds, lambda states, each=each: _engine(each, prepare(each.run), states))


def replay(task: Task, observed: Timeline) -> Iterator[Checkpoint]:
    """The checkpoints of a repeat whose order of events was recorded."""
    prepared = prepare(task.run, observed)
    return drive(task, [Repeats(task.seeds, lambda states: _engine(task, prepared, states))])


def simulate(run: Run) -> Iterator[Update]:
    """A run by hand: its updates one after the other, with all their arrays.

    Args:
        run: The run.

    Yields:
        Each update, in NumPy. Numbers are those of any executor.

    Raises:
        ValueError: Where a part does not accept the numbers of the run.
        RunError: Where a stage fails, naming worker and job.
    """
    compilation.use_disk_cache()
    prepared, here = prepare(run), world(run)
    for update, _ in _updates(prepared, here, _start(run, prepared, here)):
        yield in_numpy(update)
    ended(prepared.timeline)


def _start(run: Run, prepared: Prepared, here: World, state: State | None = None) -> States:
    """The states before the first update, or those of a snapshot."""
    core = prepared.first
    with stage("start", seed=run.seed):
        server = core.start(here)
    d, n = len(server.params), run.workers.total
    adversary = core.init_adversary(d)
    memories = [] if core.memory is None else [core.memory.start(here, d)] * n
    if state is None:
        return States(0, server, adversary, memories, {})
    if core.memory is not None:
        memories = [restored(each, [leaf[i] for leaf in state.memories]) for i, each in enumerate(memories)]
    rows = dict(zip(state.places.tolist(), map(jnp.asarray, state.rows), strict=True))
    return States(state.step, restored(server, state.server), restored(adversary, state.adversary), memories, rows)


def _engine(task: Task, prepared: Prepared, states: Sequence[State] | None) -> Engine:
    compilation.use_disk_cache()
    run, timeline = task.run, prepared.timeline
    here, n = world(run), task.run.workers.total if task.record.weights else None
    recorded = task.record.steps(timeline.steps)
    present = _start(run, prepared, here, states[0] if states else None)
    begin = present.step
    updates = _updates(prepared, here, present)
    since: list[Update] = []

    def stretch():
        whole = [in_numpy(update) for update in since if update.step in recorded]
        return stretch_of([(update.diagnostics, update.weights) for update in since], n, whole)

    def advance(stop: int) -> int:
        nonlocal present
        while present.step < stop:
            update, present = next(updates)
            # of the others no row and no model is kept in memory
            kept = update.step in recorded
            since.append(update if kept else update._replace(rows=None, forged=None, aggregate=None, params=None))
        return stop

    def evaluate() -> TakeLooks:
        with stage("evaluate", step=present.step):
            evaluation = floats(prepared.first.evaluate(here, present.server.params))
        looks = [Look(evaluation, np.asarray(present.server.params), stretch())]
        since.clear()
        return lambda wait: looks

    def state() -> list[State]:
        memories = [leaves_of(memory) for memory in present.memories]
        places = sorted(present.rows)
        rows = np.stack([np.asarray(present.rows[place]) for place in places]) if places else no_rows(
            len(present.server.params)
        )  # fmt: skip
        return [
            State(
                present.step,
                leaves_of(present.server),
                leaves_of(present.adversary),
                [np.stack(leaves) for leaves in zip(*memories, strict=True)],
                np.array(places, int),
                rows,
            )
        ]

    return Engine(begin, timeline.steps, 1, lambda: [timeline], advance, evaluate, lambda: [stretch()], state)


def _updates(prepared: Prepared, here: World, begin: States) -> Iterator[tuple[Update, States]]:
    """The updates from given states on, each with the states after it."""
    timeline = prepared.timeline
    first, server, adversary, memories, rows = begin
    readers, of_version = timeline.readers()
    for step in range(first, timeline.steps):
        interrupts.check()
        # a row is computed when the version that it is computed from is made
        for place in readers[of_version[step] : of_version[step + 1]].tolist():
            rows[place] = _work(prepared, here, server.params, memories, place)
        own, core = timeline.places_of(step), prepared.core_of(int(timeline.seen[step]))
        new = arrived(timeline, step, len(here.sizes))
        computed = forged = jnp.stack([rows.pop(place) for place in range(own.start, own.stop)])
        if core.forge is not None:
            with stage("forge", step=step):
                forged, adversary = core.forge(here, step, new, computed, public_state(server), adversary)
        with stage("update", step=step):
            server, diagnostics, decision = core.update(here, server, new, forged)
        update = Update(
            step=step,
            time_s=float(timeline.time_s[step]),
            workers=new.workers,
            rows=computed,
            byzantine=decision.byzantine,
            forged=forged,
            aggregate=decision.aggregate,
            weights=decision.weights,
            params=server.params,
            diagnostics=diagnostics,
        )
        yield update, States(step + 1, server, adversary, memories, rows)


def _work(prepared: Prepared, here: World, params: jax.Array, memories: list[Any], place: int) -> jax.Array:
    """The row of one job, as its worker sends it; what the worker remembers of it is put into `memories`."""
    core, rows = prepared.first, prepared.timeline.rows
    worker, job, handed = rows.workers[place], rows.jobs[place], rows.handed[place]
    with stage("work", worker=int(worker), job=int(job)):
        own = ()
        if core.memory is not None and core.memory.receive is not None:
            memories[worker] = core.memory.receive(memories[worker], params)
            own = (memories[worker],)
        row = core.work(here, params, worker, job, handed, *own)
        if core.memory is not None:
            memories[worker], row = core.memory.remember(here, memories[worker], row, worker, job)
    return row
