"""Waves: the events of an update as compiled loops carry them out, those of one step together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.events import NodeStep
from byzax.simulator.timeline import ROWS_AT_ONCE, Timeline

# The number of last rows that an event reads of a worker, by `NodeStep.last_rows`.
LANES = {None: 0, "sent": 1, "both": 2}


class Wave(NamedTuple):
    """Events of one step that are carried out together, the same in all updates of a kind.

    Attributes:
        step: The step, as its place in `Network.steps`.
        width: Number of events.
        rows: Number of rows in each inbox.
        seen: Number of rows that the rule sees.
        shown: Kind of the node whose last message of the update before each event reads besides; empty for none.
        shared: Whether all of them read that of one node.
        first: The first of their nodes, where these are the same consecutive ones in all updates; else None.
        reads: The waves of the same update whose messages they read; -1 stands for rows that are held across updates.
        direct: Whether their rows are just the messages of those waves, in order, and need not be gathered.
        padded: Whether some inboxes are filled up.
        lanes: Of an event that reads last rows, how often it does: 1 as they were sent, 2 as they were computed too;
            else 0.
        in_place: Whether it reads those of all workers, in order, and as they are at the end of the update.
        vacant: The number of nodes of the kind where some events do not happen in some updates, and only fill the wave
            up; 0 where all happen.
    """

    step: int
    width: int
    rows: int
    seen: int
    shown: str
    shared: bool
    first: int | None
    reads: tuple[int, ...]
    direct: bool
    padded: bool
    lanes: int
    in_place: bool
    vacant: int = 0

    def merged(self, other: "Wave") -> "Wave":
        """The wave with what holds of the events of two blocks."""
        return self._replace(
            shared=self.shared and other.shared,
            first=self.first if self.first == other.first else None,
            reads=tuple(sorted({*self.reads, *other.reads})),
            direct=self.direct and other.direct and self.reads == other.reads,
            padded=self.padded or other.padded,
            in_place=self.in_place and other.in_place,
            vacant=max(self.vacant, other.vacant),
        )


class Groups(NamedTuple):
    """Jobs whose rows are held, at the beginning of an update: as many as there are, in groups of some widths.

    Attributes:
        step: The step, as its place in `Network.steps`.
        widths: The widths of groups, rising.
        single: Whether every update of the kind has just one group.
        shown: Kind of the nodes whose last messages they read.
    """

    step: int
    widths: tuple[int, ...]
    single: bool
    shown: str


class UpdateKind(NamedTuple):
    """The events of an update, but for the numbers in them.

    Attributes:
        groups: The jobs whose rows are held; None where no rows are.
        waves: The other events.
        order: The places of these among all events of the waves, in the order of the table, which is the same in all
            updates of the kind.
    """

    groups: Groups | None
    waves: tuple[Wave, ...]
    order: tuple[int, ...]


class WaveEvents(NamedTuple):
    """The events of a wave in t updates, w in each: whole numbers of NumPy, or of JAX in a loop.

    Attributes:
        nodes: `[t, w]`; the number of nodes of the kind for an event that does not happen.
        turns: `[t, w]`.
        senders: `[t, w, k]`. See `NodeEvent`.
        versions: `[t, w, k]`.
        shown: `[t, w]`, the node whose last message is read besides.
        places: `[t, w, k]`, the places of rows among those of `Wave.reads`, one after the other; None where they are
            not gathered.
        lags: `[t, w, k]`; None where all rows are new.
        new: `[t, w, r]`, the places of new rows in the inbox; None where all are.
        states: `[t, w]`, the places of the nodes' states; None where these are the numbers of the nodes.
    """

    nodes: Any
    turns: Any
    senders: Any
    versions: Any
    shown: Any
    places: Any
    lags: Any
    new: Any
    states: Any = None


class GroupEvents(NamedTuple):
    """The jobs of t updates in groups: whole numbers of NumPy, or of JAX in a loop.

    Attributes:
        bounds: `[t, 2]`, the groups of each update, from and up to.
        begins: `[g]`, the first job of each group.
        widths: `[g]`, the width of each group, by its place in `Groups.widths`.
        nodes: `[e]`.
        turns: `[e]`.
        versions: `[e]`, the versions that the workers were handed.
        slots: `[e]`, the places at which the rows are held.
        shown: `[g]`, the node whose last message the jobs of each group read.
        states: `[e]`, the places of the nodes' states; None where these are the numbers of the nodes.
    """

    bounds: Any
    begins: Any
    widths: Any
    nodes: Any
    turns: Any
    versions: Any
    slots: Any
    shown: Any
    states: Any = None


class Arriving(NamedTuple):
    """The new rows of t updates that later ones read too: whole numbers of NumPy, or of JAX in a loop.

    Attributes:
        workers: `[t, r]`.
        slots: `[t, r]`, the places at which the rows are held.
    """

    workers: Any
    slots: Any


class HeldRows(NamedTuple):
    """The places at which rows are held from the update in which they are computed until they are read.

    Attributes:
        slots: `[R]`, for each row of the timeline.
        most: The most rows of one worker that are held at once; 0 where each is read in the update that computes it.
        num_slots: The number of places.
        first: `[T + 1]`, the first row of each update. See `Timeline`.
        lanes: Last rows that are kept of each worker besides: 1 as it was sent, 2 as it was computed too, 0 for none.
    """

    slots: np.ndarray
    most: int
    num_slots: int
    first: np.ndarray
    lanes: int


def held_rows(steps: Sequence[NodeStep], timeline: Timeline, n: int, least: int = 0) -> HeldRows:
    """Finds places for the rows of a timeline.

    Args:
        steps: The steps of the network.
        timeline: The timeline.
        n: Number of workers.
        least: Places of each worker at least.

    Returns:
        The places.
    """
    pads = any(step.pads for step in steps) and bool((timeline.sizes != timeline.first[1:2]).any())
    lanes = max((LANES[step.last_rows] for step in steps), default=0)
    if not (least or pads or lanes) and timeline.all_fresh:
        return HeldRows(np.broadcast_to(np.int32(0), int(timeline.first[-1])), 0, 0, timeline.first, lanes)
    rows, (order, begins) = timeline.rows, timeline.by_worker()
    starts, most = range(0, len(order), ROWS_AT_ONCE), max(1, least)

    def enough(begin: int) -> bool:
        """Tells whether the m-th row after each is computed when this one has been read."""
        later = order[begin + most : begin + most + ROWS_AT_ONCE]
        earlier = order[begin : begin + len(later)]
        apart = rows.workers[later] != rows.workers[earlier]
        return bool((apart | (rows.versions[later] > timeline.updates_of(earlier))).all())

    # a worker's rows one after the other: with m places for each, place m more is free again when it is needed
    while not all(map(enough, starts)):
        most += 1
    slots = np.empty(len(order), np.int32)
    for begin in starts:
        mine = order[begin : begin + ROWS_AT_ONCE]
        workers = rows.workers[mine]
        slots[mine] = workers * most + (np.arange(begin, begin + len(mine)) - begins[workers]) % most
    return HeldRows(slots, most, n * most, timeline.first, lanes)
