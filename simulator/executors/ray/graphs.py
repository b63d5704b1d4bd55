"""Updates that are all made of the same events as a compiled graph: messages go through shared memory."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import ray
from ray.dag import InputNode, MultiOutputNode

from byzax.simulator.events import Node
from byzax.simulator.executors.grouping import EventGroup
from byzax.simulator.executors.ray.hosts import Hosts
from byzax.simulator.executors.ray.pool import fetch, forget_graphs

# Executions of a graph before the oldest of them is waited for.
IN_FLIGHT = 4
# The messages of one update that a graph carries, in bytes: it holds up to IN_FLIGHT buffers of that size for each of
# them. Larger ones go through the object store.
LARGEST_MESSAGE = 64 * 2**20

# The events of an update, each group with the place of its actor among `Hosts.handles`.
Groups = list[tuple[int, EventGroup]]


def can_stream(groups: Groups, row: int) -> bool:
    """Tells whether a graph can carry an update out.

    Args:
        groups: The events of the update.
        row: Bytes of a row.
    """
    # between nodes Ray 2.60 hands messages on one after the other: a graph with several under way comes to a halt
    return len([node for node in ray.nodes() if node["Alive"]]) == 1 and _buffer(groups, row) <= LARGEST_MESSAGE


def _buffer(groups: Groups, row: int) -> int:
    """Bytes of the largest message at most: a row of each event of a level, or the state of a server."""
    return row * (8 + max(len(group.numbers) * len(groups) for _, group in groups)) + 2**20


class Graph:
    """A compiled graph of the events of an update, which is executed for each update."""

    def __init__(self, hosts: Hosts, groups: Groups, row: int) -> None:
        """Compiles the graph, or takes that of a run before, if it is the same.

        Args:
            hosts: The actors.
            groups: The events of an update.
            row: Bytes of a row.
        """
        self._update, self._form = groups[0][1].update, _form(groups)
        self._under_way: deque[Any] = deque()
        kept = hosts.network.table.kept(self._update)
        shown = hosts.by_actor({number: node for number, (node, _) in kept.items()})
        ready = []
        for place, handle in enumerate(hosts.handles):
            mine = [group for host, group in groups if host == place]
            ready.append(handle.learn.remote(mine, shown.get(place, {})))
        fetch(hosts.pool.head, ready)
        wiring, size = _wiring(groups, shown), _buffer(groups, row)
        key = size, *wiring
        if key not in hosts.pool.graphs:
            # an actor serves one graph at a time
            forget_graphs(hosts.pool)
            graph = _bound(hosts.handles, wiring)
            hosts.pool.graphs[key] = graph.experimental_compile(
                _buffer_size_bytes=size, _max_inflight_executions=IN_FLIGHT
            )
        self._graph = hosts.pool.graphs[key]

    def carries(self, groups: Groups) -> bool:
        """Tells whether the events of an update are those of the graph."""
        return _form(groups) == self._form

    def execute(self, update: int) -> None:
        """Begins an update, and waits until few are under way."""
        self._under_way.append(self._graph.execute(update - self._update))
        self.settle(IN_FLIGHT - 1)

    def settle(self, most: int = 0) -> None:
        """Waits until no more updates than so many are under way."""
        while len(self._under_way) > most:
            # only once may it be asked for
            ray.get(self._under_way.popleft(), timeout=-1)


def _form(groups: Groups) -> Any:
    """The events of an update but for the numbers in them that count updates."""
    _, first = groups[0]
    begin = first.events[1, 0] - first.events[0, 0]
    found = []
    for host, group in groups:
        events, reads = group.events.copy(), group.reads.copy()
        events[1] -= begin
        reads[0] -= begin
        moved = group._replace(events=events, reads=reads).later(-first.update)
        found.append((host, group.step, group.read, moved.events.tobytes(), moved.reads.tobytes()))
    return found


# For each group its actor, the place among the groups of that actor, and where its messages come from: the place of
# another group, or -1 - h for the nodes of actor h.
Wiring = tuple[tuple[int, int, tuple[int, ...]], ...]


def _wiring(groups: Groups, shown: Mapping[int, Mapping[int, Node]]) -> Wiring:
    origins = {number: -1 - host for host, nodes in shown.items() for number in nodes}
    origins |= {number: place for place, (_, group) in enumerate(groups) for number in group.numbers.tolist()}
    counts: dict[int, int] = {}
    found = []
    for host, group in groups:
        counts[host] = counts.get(host, -1) + 1
        feeds = dict.fromkeys(origins[number] for number in group.reads[0].ravel().tolist())
        found.append((host, counts[host], tuple(feeds)))
    return tuple(found)


def _bound(handles: list[Any], wiring: Wiring) -> Any:
    fed = {feed for _, _, feeds in wiring for feed in feeds}
    with InputNode() as shift:
        shown = {feed: handles[-1 - feed].show_again.bind(shift) for feed in sorted(fed) if feed < 0}
        made: list[Any] = []
        for place, (host, group, feeds) in enumerate(wiring):
            parts = [shown[feed] if feed < 0 else made[feed] for feed in feeds]
            repeat = handles[host].repeat if place in fed else handles[host].repeat_last
            made.append(repeat.bind(shift, group, *parts))
        ends = [each for place, each in enumerate(made) if place not in fed]
    return ends[0] if len(ends) == 1 else MultiOutputNode(ends)
