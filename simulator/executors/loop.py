"""The reference executor: one update after the other, one worker after the other, in this process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax.numpy as jnp
import numpy as np

from byzax.simulator import compilation, interrupts
from byzax.simulator.config.executors import Loop
from byzax.simulator.config.run import Run
from byzax.simulator.config.study import Task
from byzax.simulator.diagnostics import Update
from byzax.simulator.executors.base import (
    Checkpoint,
    Prepared,
    arrived,
    ended,
    evaluation_steps,
    floats,
    in_numpy,
    prepare,
    series,
    stage,
)
from byzax.simulator.serving import Server, public_state
from byzax.simulator.timeline import Timeline
from byzax.simulator.world import World, world


@contextmanager
def session(executor: Loop):
    """Nothing lives across runs here. See `byzax.simulator.executors.session`."""
    yield execute


def execute(task: Task) -> Iterator[Checkpoint]:
    """The checkpoints of each repeat, one repeat after the other. Raises RunError naming stage, worker and job."""
    for each in task.repeats:
        yield from _repeat(each)


def replay(task: Task, observed: Timeline) -> Iterator[Checkpoint]:
    """The checkpoints of a repeat whose order of events was recorded."""
    return _repeat(task, observed)


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
    for update in _updates(run, prepared, here, _started(run, prepared, here)):
        yield in_numpy(update)
    ended(prepared.timeline)


def _started(run: Run, prepared: Prepared, here: World) -> Server:
    with stage("start", seed=run.seed):
        return prepared.first.start(here)


def _repeat(task: Task, observed: Timeline | None = None) -> Iterator[Checkpoint]:
    compilation.use_disk_cache()
    begin, run = time.perf_counter(), task.run
    prepared, here = prepare(run, observed), world(run)
    timeline = prepared.timeline
    server = _started(run, prepared, here)
    evaluated = set(evaluation_steps(task.evaluate_every, timeline.steps))
    recorded = task.record.steps(timeline.steps)

    def checkpoint(step: int, params: jnp.ndarray, updates: list[Update]) -> Checkpoint:
        with stage("evaluate", step=step):
            evaluation = floats(prepared.first.evaluate(here, params))
        return Checkpoint(
            seed=run.seed,
            step=step,
            time_s=float(timeline.time_s[step - 1]) if step else 0.0,
            gradients=int(prepared.gradients[step]),
            wall_s=time.perf_counter() - begin,
            evaluation=evaluation,
            updates=series([update.diagnostics for update in updates]),
            params=np.asarray(params),
            timeline=timeline,
            weights=np.array([update.weights for update in updates]).reshape(-1, run.workers.total)
            if task.record.weights
            else None,
            recorded=tuple(in_numpy(update) for update in updates if update.step in recorded),
        )

    yield checkpoint(0, server.params, [])
    since: list[Update] = []
    for update in _updates(run, prepared, here, server):
        # of the others no row and no model is kept in memory
        since.append(
            update if update.step in recorded else update._replace(rows=None, forged=None, aggregate=None, params=None)
        )
        if update.step + 1 in evaluated:
            yield checkpoint(update.step + 1, update.params, since)
            since = []
    ended(timeline)


def _updates(run: Run, prepared: Prepared, here: World, server: Server) -> Iterator[Update]:
    timeline, core = prepared.timeline, prepared.first
    kept = core.memory and core.memory.start(here, len(server.params))
    memories = [kept] * run.workers.total
    adversary = core.init_adversary(len(server.params))
    versions = {0: server.params}
    last_use = timeline.last_use()

    for step in range(timeline.steps):
        interrupts.check()
        mine, core = timeline.places_of(step), prepared.core_of(int(timeline.seen[step]))
        new, rows = arrived(timeline, step, run.workers.total), []
        for worker, version, job, handed in zip(
            new.workers, timeline.rows.versions[mine], timeline.rows.jobs[mine], new.versions, strict=True
        ):
            with stage("work", worker=int(worker), job=int(job)):
                own = ()
                if core.memory is not None and core.memory.receive is not None:
                    memories[worker] = core.memory.receive(memories[worker], versions[version])
                    own = (memories[worker],)
                row = core.work(here, versions[version], worker, job, handed, *own)
                if core.memory is not None:
                    memories[worker], row = core.memory.remember(here, memories[worker], row, worker, job)
            rows.append(row)
        rows = forged = jnp.stack(rows)
        if core.forge is not None:
            with stage("forge", step=step):
                forged, adversary = core.forge(here, step, new, rows, public_state(server), adversary)
        with stage("update", step=step):
            server, diagnostics, decision = core.update(here, server, new, forged)
        yield Update(
            step=step,
            time_s=float(timeline.time_s[step]),
            workers=new.workers,
            rows=rows,
            byzantine=decision.byzantine,
            forged=forged,
            aggregate=decision.aggregate,
            weights=decision.weights,
            params=server.params,
            diagnostics=diagnostics,
        )
        versions[step + 1] = server.params
        for version in [v for v in versions if v != step + 1 and last_use[v] <= step]:
            del versions[version]
