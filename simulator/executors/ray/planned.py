"""A timeline carried out by actors: row by row as soon as its version is promised, or as one compiled graph."""

from collections import deque
from typing import Any

import numpy as np
import ray
from ray.dag import InputNode

from byzax.simulator import interrupts
from byzax.simulator.engine import Engine, Look, State, Stretch, TakeLooks, no_rows, rows_of
from byzax.simulator.executors.actors import Seen, asked
from byzax.simulator.executors.ray.pool import ActorPool, fetch, forget_graphs
from byzax.simulator.executors.ray.repeat import Repeat, stretch

# Updates submitted before the oldest of them is waited for: enough to keep every actor busy, and bounded.
AHEAD = 16
# The same for executions of a compiled graph.
IN_FLIGHT = 4
# The rows of one update that a compiled graph carries, in bytes: it holds up to IN_FLIGHT buffers of that size for each
# of its messages. Larger rows go through the object store.
LARGEST_MESSAGE = 64 * 2**20


def engine(pool: ActorPool, repeat: Repeat, state: State | None) -> Engine:
    """The engine of a planned run. What Ray raises passes through."""
    begin = state.step if state else 0
    return (_streamed if can_stream(repeat) else _submitted)(pool, repeat, state, begin)


def _submitted(pool: ActorPool, repeat: Repeat, state: State | None, begin: int) -> Engine:
    """Any timeline: a row is asked for as soon as the version it needs is promised; tasks hand on references."""
    timeline, post, server, step = repeat.timeline, repeat.post, repeat.server, begin
    last = np.zeros(len(post.hosts), int)
    np.maximum.at(last, post.message, timeline.updates)
    parts: dict[int, Any] = _messages(repeat, state) if state else {}
    # the updates that are not known to be made, and what was seen of the others since the last evaluation
    under_way: deque[Any] = deque()
    seen: list[Seen] = []
    public = server.publish.remote(step)

    def settle(most: int) -> None:
        while len(under_way) > most:
            # waiting takes a failure for an end: only to ask for the result shows it
            seen.append(fetch(pool.head, under_way.popleft()))

    def advance(stop: int) -> int:
        nonlocal step, public
        while step < stop:
            interrupts.check()
            settle(AHEAD - 1)
            begin, end = post.of_version[step : step + 2].tolist()
            for message in range(begin, end):
                parts[message] = repeat.workers[post.hosts[message]].work.remote(step, message - begin, public)
            needed = asked(timeline, post, step).tolist()
            rows = [parts[message] for message in needed]
            forged = repeat.adversary.forge.remote(step, public, *rows) if repeat.core.forge else None
            under_way.append(server.update.remote(step, forged, *rows))
            for message in needed:
                if last[message] == step:
                    del parts[message]
            step += 1
            public = server.publish.remote(step)
        return step

    def evaluate() -> TakeLooks:
        results = [server.evaluate.remote(step), public]
        before, updates = [*seen], [*under_way]
        seen.clear()
        under_way.clear()

        def take(wait: bool) -> list[Look] | None:
            if not wait and len(ray.wait(results, num_returns=2, timeout=0)[0]) < 2:
                return None
            evaluation, model, *after = fetch(pool.head, [*results, *updates])
            return [Look(evaluation, np.asarray(model.params), stretch(repeat, [*before, *after]))]

        return take

    def since() -> list[Stretch]:
        settle(0)
        return [stretch(repeat, seen)]

    def states() -> list[State]:
        settle(0)
        return [_state(pool, repeat, step, parts)]

    return Engine(begin, timeline.steps, 1, lambda: [timeline], advance, evaluate, since, states)


def _state(pool: ActorPool, repeat: Repeat, step: int, parts: dict[int, Any]) -> State:
    """The state after `step` updates; `parts` has the messages with rows that are not applied yet."""
    post, places = repeat.post, rows_of(repeat.timeline, step)
    numbers = np.unique(post.message[places]).tolist()
    saved = [each.save.remote() for each in (repeat.server, repeat.adversary, *repeat.workers)]
    server, adversary, *others = fetch(pool.head, [*saved, *(parts[number] for number in numbers)])
    memories, messages = others[: len(repeat.workers)], dict(zip(numbers, others[len(repeat.workers) :], strict=True))
    rows = [messages[post.message[place]][post.place[place]] for place in places.tolist()]
    leaves = [np.concatenate(each) for each in zip(*memories, strict=True)]
    nodes = {
        "server": [leaf[None] for leaf in server], "adversary": [leaf[None] for leaf in adversary], "worker": leaves
    }  # fmt: skip
    return State(step, nodes, places, np.stack(rows) if rows else no_rows(repeat.d))


def _messages(repeat: Repeat, state: State) -> dict[int, Any]:
    """The messages that hold the rows of a state; where a row was applied already a message has zeros."""
    post, held = repeat.post, {}
    message, place = post.message[state.places], post.place[state.places]
    for number in np.unique(message).tolist():
        rows = np.zeros((post.begins[number + 1] - post.begins[number], repeat.d), state.rows.dtype)
        rows[place[message == number]] = state.rows[message == number]
        held[number] = ray.put(rows)
    return held


def can_stream(repeat: Repeat) -> bool:
    """Tells whether all updates are made of the same messages, from the newest model, which fit a node's buffers."""
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


def _streamed(pool: ActorPool, repeat: Repeat, state: State | None, begin: int) -> Engine:
    """A timeline whose updates all look the same: one execution of a compiled graph each."""
    graph, step, server = compiled(pool, repeat), begin, repeat.server
    under_way: deque[Any] = deque()
    seen: list[Seen] = []

    def settle(most: int) -> None:
        while len(under_way) > most:
            # only once may it be asked for
            seen.append(ray.get(under_way.popleft(), timeout=-1))

    def advance(stop: int) -> int:
        nonlocal step
        while step < stop:
            interrupts.check()
            under_way.append(graph.execute(step))
            settle(IN_FLIGHT - 1)
            step += 1
        return step

    def evaluate() -> TakeLooks:
        settle(0)
        evaluation, public = fetch(pool.head, [server.evaluate.remote(step), server.publish.remote(step)])
        looks = [Look(evaluation, np.asarray(public.params), stretch(repeat, seen))]
        seen.clear()
        return lambda wait: looks

    def since() -> list[Stretch]:
        settle(0)
        return [stretch(repeat, seen)]

    def states() -> list[State]:
        settle(0)
        return [_state(pool, repeat, step, {})]

    timeline = repeat.timeline
    return Engine(begin, timeline.steps, 1, lambda: [timeline], advance, evaluate, since, states)
