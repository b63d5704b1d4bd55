"""Any table of events carried out by actors that host the nodes; tasks hand on references to messages."""

from collections import deque
from typing import Any

import numpy as np
import ray

from byzax.simulator import interrupts
from byzax.simulator.config.study import Task
from byzax.simulator.engine import Engine, Look, State, Stretch, TakeLooks, no_rows, rows_of, stretch_of
from byzax.simulator.events import EventBlock, inbox_of
from byzax.simulator.executors.base import network_of, prepare
from byzax.simulator.executors.ray.pool import SERVER, ActorPool, fetch, worker_name
from byzax.simulator.parts import message_bits

# Updates submitted before the oldest of them is waited for.
AHEAD = 4


def engine(pool: ActorPool, count: int, task: Task, state: State | None) -> Engine:
    """The engine of a planned run of any network. What Ray raises passes through.

    Args:
        pool: The actors.
        count: Number of those that host nodes.
        task: The task, of one seed.
        state: The state to begin with; None for the beginning of the run.

    Returns:
        The engine.
    """
    prepared = prepare(task.run)
    network, _ = network_of(task.run, prepared)
    timeline, table = prepared.timeline, network.table
    hosts = {kind: np.arange(nodes) * count // nodes for kind, nodes in network.nodes.items()}
    handles = [pool.actors[worker_name(i)].handle for i in range(count)]
    server = pool.actors[SERVER].handle
    ready = [server.host.remote(task, {}, None)]
    for i, handle in enumerate(handles):
        mine = {kind: np.flatnonzero(hosted == i) for kind, hosted in hosts.items()}
        leaves = state and {kind: [leaf[mine[kind]] for leaf in leaves] for kind, leaves in state.nodes.items()}
        ready.append(handle.host.remote(task, mine, leaves))
    fetch(pool.head, ready)
    step = begin = state.step if state else 0
    # the messages that later events read: references, with the last event that reads each
    live: dict[int, tuple[Any, int]] = {}
    for number, (node, last) in table.kept(step).items():
        live[number] = handles[hosts[node[0]][node[1]]].ask.remote("shown", step), last
    for place, row in zip(state.places.tolist(), state.rows, strict=True) if state else ():
        number, last = table.number_of(place)
        live[number] = ray.put({number: row}), last
    under_way: deque[Any] = deque()
    # of each update its diagnostics and weights, and all of it where it is recorded
    seen: list[Any] = []
    recorded = task.record.steps(timeline.steps)

    def settle(most: int) -> None:
        while len(under_way) > most:
            seen.append(fetch(pool.head, under_way.popleft()))

    def submit(update: int) -> None:
        block = table.events(update, update + 1)
        found = []
        for level in map(np.array, _levels_of(block)):
            hosted = hosts[network.steps[block.step[level[0]]].kind][block.node[level]]
            made = []
            for host in np.unique(hosted).tolist():
                places = level[hosted == host]
                needed = sorted({source for e in places.tolist() for source, _ in inbox_of(block, e)})
                parts = list(dict.fromkeys(live[source][0] for source in needed))
                call = handles[host].ask.options(num_returns=2)
                messages, measured = call.remote("carry_out", update, places, update in recorded, *parts)
                made.append((places, messages))
                found.append(measured)
            for places, messages in made:
                live.update({block.begin + e: (messages, int(block.last[e])) for e in places.tolist()})
        end = block.begin + len(block.step)
        for number in [number for number, (_, last) in live.items() if last < end]:
            del live[number]
        if update in recorded:
            states = [handle.ask.remote("copied_states") for handle in handles]
            under_way.append(server.ask.remote("record", update, len(handles), *states, *found))
        else:
            under_way.append(server.ask.remote("measure", *found))

    def advance(stop: int) -> int:
        nonlocal step
        while step < stop:
            interrupts.check()
            settle(AHEAD - 1)
            submit(step)
            step += 1
        return step

    def stretch() -> Stretch:
        whole = [update for _, _, *updates in seen for update in updates]
        return stretch_of([each[:2] for each in seen], task.run.workers.total if task.record.weights else None, whole)

    def evaluate() -> TakeLooks:
        states = [handle.ask.remote("copied_states") for handle in handles]
        result = server.ask.remote("evaluate", step, *states)
        settle(0)
        since = stretch()
        seen.clear()

        def take(wait: bool) -> list[Look] | None:
            if not wait and not ray.wait([result], timeout=0)[0]:
                return None
            evaluation, params = fetch(pool.head, result)
            return [Look(evaluation, np.asarray(params), since)]

        return take

    def since() -> list[Stretch]:
        settle(0)
        return [stretch()]

    def states() -> list[State]:
        settle(0)
        saved = fetch(pool.head, [handle.ask.remote("save") for handle in handles])
        nodes = {
            kind: [np.concatenate(each) for each in zip(*(part[kind] for part in saved if part[kind]), strict=True)]
            for kind in network.nodes
        }
        places = rows_of(timeline, step)
        numbers = [table.number_of(place)[0] for place in places.tolist()]
        parts = dict.fromkeys(live[number][0] for number in numbers)
        held = {number: row for part in fetch(pool.head, [*parts]) for number, row in part.items()}
        rows = [held[number] for number in numbers]
        return [State(step, nodes, places, np.stack(rows) if rows else no_rows(message_bits(task.run) // 32))]

    return Engine(begin, timeline.steps, 1, lambda: [timeline], advance, evaluate, since, states)


def _levels_of(block: EventBlock) -> list[list[int]]:
    """The events of a table in groups that can be carried out together.

    Args:
        block: The table.

    Returns:
        Places of consecutive events of one step, with inboxes of one size and different nodes, none of which reads a
        message of another.
    """
    found: list[list[int]] = []
    nodes: set[int] = set()
    now: Any = None
    for e in range(len(block.step)):
        read, node = inbox_of(block, e), int(block.node[e])
        like = int(block.step[e]), len(read)
        if like != now or node in nodes or any(source >= block.begin + found[-1][0] for source, _ in read):
            found.append([])
            nodes.clear()
        found[-1].append(e)
        nodes.add(node)
        now = like
    return found
