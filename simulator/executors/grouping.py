"""Events of an update in groups that one process of several carries out together."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from byzax.simulator.events import EventBlock, NodeStep


class EventGroup(NamedTuple):
    """Events of one step and one update. Other columns are those of `EventBlock`, for these events alone.

    Attributes:
        update: The update.
        step: The step, as its place in `Network.steps`.
        places: `[e]`, their places among the events of the update.
        numbers: `[e]`, their numbers.
        node: `[e]`.
        turn: `[e]`.
        seen: `[e]`.
        first: `[e + 1]`.
        source: `[m]`.
        port: `[m]`.
        sender: `[m]`.
        version: `[m]`.
        gone: `[g, 2]`, pairs (place in this group, worker).
        read: For each event the rows of its message that others read: none for the whole message; None where nobody
            reads it.
    """

    update: int
    step: int
    places: np.ndarray
    numbers: np.ndarray
    node: np.ndarray
    turn: np.ndarray
    seen: np.ndarray
    first: np.ndarray
    source: np.ndarray
    port: np.ndarray
    sender: np.ndarray
    version: np.ndarray
    gone: np.ndarray
    read: tuple[tuple[int, ...] | None, ...]

    def later(self, shift: int) -> "EventGroup":
        """The same events so many updates later, but for their numbers."""
        return self._replace(update=self.update + shift, turn=self.turn + shift, version=self.version + shift)


class Read(NamedTuple):
    """A message that an event reads. See `EventBlock`."""

    number: int
    port: int
    sender: int
    version: int


def unplanned_event(
    update: int,
    step: int,
    place: int,
    number: int,
    node: int,
    turn: int,
    reads: Sequence[Read],
    seen: int = 0,
    gone: Sequence[int] = (),
    read: tuple[int, ...] | None = (),
) -> EventGroup:
    """An event as it happens, in no table.

    Args:
        update: The update.
        step: The step, as its place in `Network.steps`.
        place: The place among the events of the update.
        number: Its number.
        node: The node.
        turn: The number of its turn.
        reads: The messages that it reads.
        seen: The number of rows that the rule sees.
        gone: The workers whose row has left the table.
        read: See `EventGroup`.

    Returns:
        The event alone.
    """
    source, port, sender, version = np.array(reads, np.int64).reshape(-1, 4).T
    places, numbers, nodes, turns, rows = (np.array([each]) for each in (place, number, node, turn, seen))
    pairs = np.array([(0, worker) for worker in gone], int).reshape(-1, 2)
    first = np.array([0, len(reads)])
    return EventGroup(
        update, step, places, numbers, nodes, turns, rows, first, source, port, sender, version, pairs, (read,)
    )


def groups_of(
    block: EventBlock,
    since: int,
    update: int,
    steps: Sequence[NodeStep],
    host_of: Callable[[str, np.ndarray], np.ndarray],
) -> Iterator[tuple[int, EventGroup]]:
    """The events of an update in groups, in an order in which they can be carried out.

    Args:
        block: A part of the table.
        since: The first update of the part.
        update: The update.
        steps: The steps of the network.
        host_of: Tells for a kind, and nodes of it, which host each is at.

    Yields:
        The host, and events of one step and different nodes of it, with inboxes of one size, none of which reads a
        message of another.
    """
    begin, end = block.bounds[update - since : update - since + 2].tolist()
    for level in _levels(block, begin, end):
        places = np.array(level)
        hosts = host_of(steps[block.step[level[0]]].kind, block.node[places])
        for host in np.unique(hosts).tolist():
            yield host, _group(block, update, steps, places[hosts == host], begin, end)


def _group(
    block: EventBlock, update: int, steps: Sequence[NodeStep], places: np.ndarray, begin: int, end: int
) -> EventGroup:
    step = int(block.step[places[0]])
    sizes = block.first[places + 1] - block.first[places]
    first = np.concatenate([[0], np.cumsum(sizes)])
    reads = np.arange(first[-1]) + np.repeat(block.first[places] - first[:-1], sizes)
    inside, numbers = block.gone[np.isin(block.gone[:, 0], places)], block.begin + places
    read: list[tuple[int, ...] | None] = [() if last else None for last in (block.last[places] > numbers).tolist()]
    if steps[step].forges:
        of_update = slice(block.first[begin], block.first[end])
        source, port = block.source[of_update], block.port[of_update]
        for i, number in enumerate(numbers.tolist()):
            rows = port[source == number]
            # of a message that a later update reads everything is kept
            if len(rows) and rows.min() >= 0 and block.last[places[i]] < block.begin + end:
                read[i] = tuple(np.unique(rows).tolist())
    return EventGroup(
        update,
        step,
        places - begin,
        numbers,
        block.node[places],
        block.turn[places],
        block.seen[places],
        first,
        block.source[reads],
        block.port[reads],
        block.sender[reads],
        block.version[reads],
        np.stack([np.searchsorted(places, inside[:, 0]), inside[:, 1]], axis=1),
        tuple(read),
    )


def _levels(block: EventBlock, begin: int, end: int) -> list[list[int]]:
    """The places of consecutive events that may be carried out together."""
    first, begun = block.first[begin : end + 1].tolist(), block.begin
    source = block.source[first[0] : first[-1]].tolist()
    found: list[list[int]] = []
    nodes: set[int] = set()
    now = None
    events = zip(block.step[begin:end].tolist(), block.node[begin:end].tolist(), strict=True)
    for e, (step, node) in enumerate(events):
        reads = source[first[e] - first[0] : first[e + 1] - first[0]]
        like = step, len(reads)
        if like != now or node in nodes or max(reads, default=-1) >= begun + found[-1][0]:
            found.append([])
            nodes.clear()
        found[-1].append(begin + e)
        nodes.add(node)
        now = like
    return found


def is_regular(block: EventBlock) -> bool:
    """Tells whether all updates of a part of the table are made of the same events, but for the numbers in them.

    The events of one update are then those of another, `EventGroup.later` by the difference.

    Args:
        block: The part.
    """
    count, events = len(block.bounds) - 1, len(block.step)
    size, reads = events // count, len(block.source) // count
    if (np.diff(block.bounds) != size).any() or (np.diff(block.first[:: max(size, 1)]) != reads).any():
        return False
    update = np.arange(count)[:, None]

    def same(values: np.ndarray, step: int = 0) -> bool:
        by_update = values.reshape(count, -1) - step * update
        return bool((by_update == by_update[0]).all())

    alike = (np.diff(block.first), block.step, block.node, block.seen, block.port, block.sender)
    # a row that is read in a later update is held, and not shown by its node
    begins = block.begin + size * update
    held = block.job.reshape(count, -1)[block.source.reshape(count, -1) < begins] >= 0
    kept = (block.row.reshape(count, -1) >= 0) & (block.last.reshape(count, -1) >= begins + size)
    return (
        all(map(same, alike))
        and same(block.turn, 1)
        and same(block.version, 1)
        and same(block.source, size)
        and not (held.any() or kept.any())
        and not len(block.gone)
    )
