"""One repeat of a scenario, told to all actors."""

import time
from typing import Any, NamedTuple

import numpy as np
import ray

from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Evaluation, Update
from byzax.simulator.executors.actors import Post, posted
from byzax.simulator.executors.base import Checkpoint, first_core, prepare, stacked
from byzax.simulator.executors.ray.cast import ADVERSARY, SERVER, Cast, worker_name
from byzax.simulator.config.run import Run
from byzax.simulator.serving import Server
from byzax.simulator.timeline import UNPLANNED, Timeline


class Run(NamedTuple):
    """One repeat, ready to go: its actors are configured. `hosts` `[n]`: the worker actor of each worker."""

    workers: list[Any]
    adversary: Any
    server: Any
    run: Run
    seed: int
    hosts: np.ndarray
    timeline: Timeline
    gradients: np.ndarray
    post: Post
    core: Core
    d: int
    begin: float


def configure(cast: Cast, count: int, run: Run) -> Run:
    begin = time.perf_counter()
    n = run.workers.total
    hosts = np.arange(n) * count // n
    adversary, server, *workers = (
        cast.actors[each].handle for each in (ADVERSARY, SERVER, *map(worker_name, range(count)))
    )
    described = SCENARIO_DUMP(mode="json")
    d = server.configure.remote(described, seed, hosts)
    ready = [handle.configure.remote(described, seed, hosts, d) for handle in (*workers, adversary)]
    mine = prepare(run, UNPLANNED if run.clock == "wall" else None)
    post, core = posted(mine.timeline, hosts), first_core(run)
    d, *_ = ray.get([d, *ready])
    return Run(workers, adversary, server, run, hosts, mine.timeline, mine.gradients, post, core, d, begin)


def checkpoint(run: Run, step: int, evaluation: Evaluation, public: Server, seen: list[Update]) -> Checkpoint:
    return Checkpoint(
        seed=run.seed,
        step=step,
        time_s=float(run.timeline.time_s[step - 1]) if step else 0.0,
        gradients=int(run.gradients[step]),
        wall_s=time.perf_counter() - run.begin,
        evaluation=evaluation,
        updates=stacked(seen),
        params=np.asarray(public.params),
        timeline=run.timeline,
    )
