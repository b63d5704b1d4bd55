"""A timeline replayed by actors: row by row as soon as its version is promised, or as one compiled graph."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
from ray.dag import InputNode

from byzax.simulator import interrupts
from byzax.simulator.executors.actors import asked
from byzax.simulator.executors.base import Checkpoint, evaluation_steps
from byzax.simulator.executors.ray.pool import ActorPool, forget_graphs
from byzax.simulator.executors.ray.repeat import Repeat, checkpoint

# Updates submitted before the oldest of them is waited for: enough to keep every actor busy, and bounded.
AHEAD = 16
# The same for executions of a compiled graph.
IN_FLIGHT = 4
# The rows of one update that a compiled graph carries, in bytes: it holds up to IN_FLIGHT buffers of that size for each
# of its messages. Larger rows go through the object store.
LARGEST_MESSAGE = 64 * 2**20


def submitted(repeat: Repeat) -> Iterator[Checkpoint]:
    """Any timeline: a row is asked for as soon as the version it needs is promised; tasks hand on references."""
    timeline, post, server = repeat.timeline, repeat.post, repeat.server
    evaluated = set(evaluation_steps(repeat.task.evaluate_every, timeline.steps))
    last = np.zeros(len(post.hosts), int)
    np.maximum.at(last, post.message, timeline.updates)
    parts: dict[int, Any] = {}
    updates: list[Any] = []
    checkpoints: deque[tuple[int, Any, Any, list[Any]]] = deque()
    for step in range(timeline.steps + 1):
        interrupts.check()
        public = server.publish.remote(step)
        if step in evaluated:
            checkpoints.append((step, server.evaluate.remote(step), public, updates))
            updates = []
        while checkpoints and (step - checkpoints[0][0] >= AHEAD or step == timeline.steps):
            at, *results, seen = checkpoints.popleft()
            evaluation, model, *seen = ray.get([*results, *seen])
            yield checkpoint(repeat, at, evaluation, model, seen)
        if step == timeline.steps:
            return

        if len(updates) >= AHEAD:
            ray.wait([updates[-AHEAD]], fetch_local=False)
        begin, end = post.of_version[step : step + 2].tolist()
        for message in range(begin, end):
            parts[message] = repeat.workers[post.hosts[message]].work.remote(step, message - begin, public)
        needed = asked(timeline, post, step).tolist()
        rows = [parts[message] for message in needed]
        forged = repeat.adversary.forge.remote(step, public, *rows) if repeat.core.forge else None
        updates.append(server.update.remote(step, forged, *rows))
        for message in needed:
            if last[message] == step:
                del parts[message]


def can_stream(repeat: Repeat) -> bool:
    """Whether every update is made of the same messages, all from the newest model, which fit the buffers of a node."""
    timeline, post = repeat.timeline, repeat.post
    size = int(timeline.sizes[0])
    fresh = bool((timeline.rows.versions == timeline.updates).all() and (timeline.sizes == size).all())
    return (
        # between nodes Ray 2.60 hands messages on one after the other: a graph with several under way comes to a halt
        len([node for node in ray.nodes() if node["Alive"]]) == 1
        and fresh
        and bool((timeline.rows.workers.reshape(-1, size) == timeline.rows.workers[:size]).all())
        and bool((timeline.seen == timeline.seen[0]).all())
        and bool((np.diff(post.of_version[:-1]) == post.of_version[1]).all())
        and size * repeat.d * 4 <= LARGEST_MESSAGE
    )


def compiled(pool: ActorPool, repeat: Repeat) -> Any:
    """One update as a compiled graph: actors hand messages on through shared memory, without the driver in between."""
    hosts = repeat.post.hosts[: repeat.post.of_version[1]].tolist()
    rows = int(repeat.timeline.sizes[0]) * repeat.d * 4
    # an update that is recorded comes back whole: the rows, the forged rows, and aggregate and model
    size = rows + 2**20 if repeat.task.record.rows is None else 3 * rows + 2 * repeat.d * 4 + 2**20
    # whatever a graph is made of: another schedule or seed may ask other hosts
    key = (size, repeat.core.forge is None, *hosts)
    if key not in pool.graphs:
        # an actor serves one graph at a time
        forget_graphs(pool)
        with InputNode() as step:
            public = repeat.server.publish.bind(step)
            parts = [repeat.workers[host].work.bind(step, turn, public) for turn, host in enumerate(hosts)]
            forged = None if repeat.core.forge is None else repeat.adversary.forge.bind(step, public, *parts)
            update = repeat.server.update.bind(step, forged, *parts)
        pool.graphs[key] = update.experimental_compile(_buffer_size_bytes=size, _max_inflight_executions=IN_FLIGHT)
    return pool.graphs[key]


def streamed(repeat: Repeat, graph: Any) -> Iterator[Checkpoint]:
    """A timeline whose updates all look the same: one execution of the graph each."""
    evaluated = set(evaluation_steps(repeat.task.evaluate_every, repeat.timeline.steps))
    under_way: deque[Any] = deque()
    seen: list[Any] = []
    for step in range(repeat.timeline.steps + 1):
        interrupts.check()
        if step in evaluated:
            seen += [ray.get(update, timeout=-1) for update in under_way]
            under_way.clear()
            evaluation, public = ray.get([repeat.server.evaluate.remote(step), repeat.server.publish.remote(step)])
            yield checkpoint(repeat, step, evaluation, public, seen)
            seen = []
        if step == repeat.timeline.steps:
            return
        under_way.append(graph.execute(step))
        if len(under_way) >= IN_FLIGHT:
            seen.append(ray.get(under_way.popleft(), timeout=-1))
