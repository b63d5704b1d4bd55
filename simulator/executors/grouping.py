"""Events of an update in groups that one process of several carries out together."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from byzax.simulator.events import EventBlock, NodeEvent, NodeStep


class EventGroup(NamedTuple):
    """Events of one step and one update, in their order and with as many messages to read.

    An actor is sent them in two arrays, since each array takes some microseconds.

    Attributes:
        update: The update.
        step: The step, as its place in `Network.steps`.
        events: `[5, e]`: their places among the events of the update, numbers, nodes, turns, and numbers of rows that
            the rule sees.
        reads: `[5, e, k]`: source, port, sender, version and lag of the messages read. See `EventBlock`.
        read: For each event the rows of its message that others read: none for the whole message; None where nobody
            reads it.
    """

    update: int
    step: int
    events: np.ndarray
    reads: np.ndarray
    read: tuple[tuple[int, ...] | None, ...]

    @property
    def numbers(self) -> np.ndarray:
        """`[e]`, the numbers of the events."""
        return self.events[1]

    def as_seen(self) -> Iterator[NodeEvent]:
        """The events as their steps see them."""
        _, _, nodes, turns, seen = self.events.tolist()
        # of the type that a loop over the table gives them
        sender, version, lag = self.reads[2:].astype(np.int32)
        for event in zip(nodes, turns, seen, sender, version, lag, strict=True):
            yield NodeEvent(*event, new=np.flatnonzero(event[-1] == 0))

    def later(self, shift: int) -> "EventGroup":
        """The same events so many updates later, but for their numbers."""
        events, reads = self.events.copy(), self.reads.copy()
        events[3] += shift
        reads[3] += shift
        return self._replace(update=self.update + shift, events=events, reads=reads)


class SingleEvent(NamedTuple):
    """An event of a race, in plain numbers.

    Attributes:
        update: The update.
        step: The step, as its place in `Network.steps`.
        place: The place among the events of the update.
        number: Its number.
        node: The node.
        turn: The number of its turn.
        seen: The number of rows that the rule sees.
        reads: The messages read: source, port, sender, version and lag of each. See `EventBlock`.
        read: See `EventGroup`.
    """

    update: int
    step: int
    place: int
    number: int
    node: int
    turn: int
    seen: int
    reads: list[tuple[int, int, int, int, int]]
    read: tuple[int, ...] | None = ()

    def alone(self) -> EventGroup:
        """The event as a group."""
        events = np.array([[self.place], [self.number], [self.node], [self.turn], [self.seen]])
        reads = np.array(self.reads, int).reshape(1, -1, 5).transpose(2, 0, 1)
        return EventGroup(self.update, self.step, events, reads, (self.read,))


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
        The host, and events of one step and nodes of it, with inboxes of one size, none of which reads a message of
        another.
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
    step, numbers = int(block.step[places[0]]), block.begin + places
    first = block.first[places]
    reads = first[:, None] + np.arange(block.first[places[0] + 1] - first[0])
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
        np.stack([places - begin, numbers, block.node[places], block.turn[places], block.seen[places]]),
        np.stack([each[reads] for each in (block.source, block.port, block.sender, block.version, block.lag)]),
        tuple(read),
    )


def _levels(block: EventBlock, begin: int, end: int) -> list[list[int]]:
    """The places of consecutive events that may be carried out together."""
    first, begun = block.first[begin : end + 1].tolist(), block.begin
    source = block.source[first[0] : first[-1]].tolist()
    found: list[list[int]] = []
    now = None
    for e, step in enumerate(block.step[begin:end].tolist()):
        reads = source[first[e] - first[0] : first[e + 1] - first[0]]
        like = step, len(reads)
        if like != now or max(reads, default=-1) >= begun + found[-1][0]:
            found.append([])
        found[-1].append(begin + e)
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

    alike = (np.diff(block.first), block.step, block.node, block.seen, block.port, block.sender, block.lag)
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
    )
