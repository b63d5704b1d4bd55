"""One repeat of a task: its actors are configured, and what they measure is put together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.config.study import Task
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Update
from byzax.simulator.engine import State, Stretch, stretch_of
from byzax.simulator.executors.actors import Post, Seen, posted
from byzax.simulator.executors.base import first_core, prepare
from byzax.simulator.executors.ray.pool import ADVERSARY, SERVER, ActorPool, fetch, worker_name
from byzax.simulator.timeline import UNPLANNED, Timeline


class Repeat(NamedTuple):
    """One repeat, ready to go: its actors are configured.

    Attributes:
        workers: The worker actors.
        adversary: The adversary actor.
        server: The server actor.
        task: The task, of one seed.
        hosts: `[n]`, the worker actor of each worker.
        timeline: The timeline.
        post: The messages that carry rows.
        core: The core of the first update.
        d: Number of parameters.
    """

    workers: list[Any]
    adversary: Any
    server: Any
    task: Task
    hosts: np.ndarray
    timeline: Timeline
    post: Post
    core: Core
    d: int


def configure(pool: ActorPool, count: int, task: Task, state: State | None) -> Repeat:
    """Gives all actors the task of one seed, and their states in a snapshot where the run goes on from one."""
    run = task.run
    n = run.workers.total
    hosts = np.arange(n) * count // n
    adversary, server, *workers = (
        pool.actors[each].handle for each in (ADVERSARY, SERVER, *map(worker_name, range(count)))
    )
    of_server, of_adversary = (state and [leaf[0] for leaf in state.nodes[kind]] for kind in ("server", "adversary"))
    d = server.configure.remote(task, hosts, of_server)
    ready = [adversary.configure.remote(task, hosts, d, of_adversary)]
    for host, handle in enumerate(workers):
        mine = np.flatnonzero(hosts == host)
        ready.append(
            handle.configure.remote(
                task, hosts, d, mine, [leaf[mine] for leaf in state.nodes["worker"]] if state else []
            )
        )
    prepared = prepare(run, UNPLANNED if run.clock == "wall" else None)
    post, core = posted(prepared.timeline, hosts), first_core(run)
    d, *_ = fetch(pool.head, [d, *ready])
    return Repeat(workers, adversary, server, task, hosts, prepared.timeline, post, core, d)


def stretch(repeat: Repeat, seen: Sequence[Seen]) -> Stretch:
    """The measurements of updates, from what the server gave for them."""
    # copies: what comes through a compiled graph are views of a message that is used again
    whole = (each.whole for each in seen if each.whole is not None)
    copied: Any = ((np.array(part) if isinstance(part, np.ndarray) else part for part in each) for each in whole)
    n = repeat.task.run.workers.total if repeat.task.record.weights else None
    return stretch_of([(each.diagnostics, each.weights) for each in seen], n, [*map(Update._make, copied)])
