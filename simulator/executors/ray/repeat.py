"""One repeat of a task: its actors are configured, and what they measure becomes checkpoints."""

import time
from typing import Any, NamedTuple

import numpy as np
import ray

from byzax.simulator.config.study import Task
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Evaluation, Update
from byzax.simulator.executors.actors import Post, Seen, posted
from byzax.simulator.executors.base import Checkpoint, first_core, prepare, series
from byzax.simulator.executors.ray.pool import ADVERSARY, SERVER, ActorPool, worker_name
from byzax.simulator.serving import Server
from byzax.simulator.timeline import UNPLANNED, Timeline


class Repeat(NamedTuple):
    """One repeat, ready to go: its actors are configured. `hosts` `[n]`: the worker actor of each worker."""

    workers: list[Any]
    adversary: Any
    server: Any
    task: Task
    hosts: np.ndarray
    timeline: Timeline
    gradients: np.ndarray
    post: Post
    core: Core
    d: int
    begin: float


def configure(pool: ActorPool, count: int, task: Task) -> Repeat:
    """Gives all actors the task of one seed."""
    begin, run = time.perf_counter(), task.run
    n = run.workers.total
    hosts = np.arange(n) * count // n
    adversary, server, *workers = (
        pool.actors[each].handle for each in (ADVERSARY, SERVER, *map(worker_name, range(count)))
    )
    d = server.configure.remote(task, hosts)
    ready = [handle.configure.remote(task, hosts, d) for handle in (*workers, adversary)]
    mine = prepare(run, UNPLANNED if run.clock == "wall" else None)
    post, core = posted(mine.timeline, hosts), first_core(run)
    d, *_ = ray.get([d, *ready])
    return Repeat(workers, adversary, server, task, hosts, mine.timeline, mine.gradients, post, core, d, begin)


def checkpoint(repeat: Repeat, step: int, evaluation: Evaluation, public: Server, seen: list[Seen]) -> Checkpoint:
    """The checkpoint after `step` updates, from what the server gave for the updates since the last one."""
    # copies: what comes through a compiled graph are views of a message that is used again
    whole = (each.whole for each in seen if each.whole is not None)
    copied: Any = ((np.array(part) if isinstance(part, np.ndarray) else part for part in each) for each in whole)
    recorded = tuple(map(Update._make, copied))
    n = repeat.task.run.workers.total
    return Checkpoint(
        seed=repeat.task.run.seed,
        step=step,
        time_s=float(repeat.timeline.time_s[step - 1]) if step else 0.0,
        gradients=int(repeat.gradients[step]),
        wall_s=time.perf_counter() - repeat.begin,
        evaluation=evaluation,
        updates=series([each.diagnostics for each in seen]),
        params=np.asarray(public.params),
        timeline=repeat.timeline,
        weights=np.array([each.weights for each in seen]).reshape(-1, n) if repeat.task.record.weights else None,
        recorded=recorded,
    )
