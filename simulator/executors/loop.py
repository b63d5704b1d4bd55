"""The reference executor: one update after the other, one worker after the other, in this process."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax.numpy as jnp
import numpy as np

from byzax.simulator import compilation, interrupts
from byzax.simulator.executors.base import Checkpoint, arrived, ended, evaluation_steps, floats, prepare, stacked, stage
from byzax.simulator.config.executors import Loop
from byzax.simulator.config.run import Run
from byzax.simulator.serving import shown
from byzax.simulator.timeline import Timeline
from byzax.simulator.world import world


@contextmanager
def session(executor: Loop):
    """Nothing lives across runs here. See `byzax.simulator.executors.session`."""
    yield run


def run(run: Run) -> Iterator[Checkpoint]:
    """The checkpoints of each repeat, one repeat after the other. Raises RunError naming stage, worker and job."""
    for seed in run.seeds:
        yield from _repeat(run)


def replay(run: Run, observed: Timeline) -> Iterator[Checkpoint]:
    """The checkpoints of a repeat whose order of events was recorded."""
    return _repeat(run, observed)


def _repeat(run: Run, observed: Timeline | None = None) -> Iterator[Checkpoint]:
    compilation.keep()
    begin = time.perf_counter()
    timeline, core_of, gradients = prepare(run, observed)
    core = core_of(int(timeline.seen[0]))
    evaluated = set(evaluation_steps(run, timeline.steps))
    here = world(run)
    with stage("start", seed=seed):
        server = core.start(here)
    kept = core.memory and core.memory.start(here, len(server.params))
    memories = [kept] * run.workers.total
    adversary = core.adversary(len(server.params))
    versions = {0: server.params}
    last_use = timeline.last_use()
    updates = []

    for step in range(timeline.steps + 1):
        interrupts.check()
        if step in evaluated:
            with stage("evaluate", step=step):
                evaluation = floats(core.evaluate(here, server.params))
            yield Checkpoint(
                seed=seed,
                step=step,
                time_s=float(timeline.time_s[step - 1]) if step else 0.0,
                gradients=int(gradients[step]),
                wall_s=time.perf_counter() - begin,
                evaluation=evaluation,
                updates=stacked(updates),
                params=np.asarray(server.params),
                timeline=timeline,
            )
            updates = []
        if step == timeline.steps:
            return ended(timeline)

        mine, core = timeline.of(step), core_of(int(timeline.seen[step]))
        new, rows = arrived(timeline, step, run.workers.total), []
        for worker, version, job, handed in zip(
            new.workers, timeline.rows.versions[mine], timeline.rows.jobs[mine], new.versions, strict=True
        ):
            with stage("work", worker=int(worker), job=int(job)):
                own = ()
                if core.memory is not None and core.memory.handed is not None:
                    memories[worker] = core.memory.handed(memories[worker], versions[version])
                    own = (memories[worker],)
                row = core.work(here, versions[version], worker, job, handed, *own)
                if core.memory is not None:
                    memories[worker], row = core.memory.remember(here, memories[worker], row, worker, job)
            rows.append(row)
        rows = jnp.stack(rows)
        if core.forge is not None:
            with stage("forge", step=step):
                rows, adversary = core.forge(here, step, new, rows, shown(server), adversary)
        with stage("update", step=step):
            server, seen = core.update(here, server, new, rows)
        updates.append(seen)
        versions[step + 1] = server.params
        for version in [v for v in versions if v != step + 1 and last_use[v] <= step]:
            del versions[version]
