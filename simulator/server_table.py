"""The table of events of a run with one server, made of its timeline."""

from bisect import bisect_left
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np

from byzax.simulator.events import EventBlock, EventTable, KeptRows
from byzax.simulator.timeline import ROWS_AT_ONCE, Timeline

# who does no job comes first, as Byzantine workers mostly do: their rows then need no other order
UNREAD, WORK, FORGE, UPDATE = range(4)
SERVER, ADVERSARY = ("server", 0), ("adversary", 0)


class LastRows(NamedTuple):
    """The events that read the last row of every worker, and not the new rows alone.

    Attributes:
        update: Whether updates do, and with them what is forged for them.
        forging: Whether events that forge rows do.
        computed: Whether these read all rows again as they were computed.
    """

    update: bool = False
    forging: bool = False
    computed: bool = False


class Spans(NamedTuple):
    """The updates in which rows are the last ones of their workers.

    Attributes:
        ends: `[R]`, the update in which each is replaced or leaves; the number of updates where it stays.
        order: `[R]`, the rows of one worker after the other. See `Timeline.by_worker`.
        begins: `[n + 1]`, where those of each worker begin.
    """

    ends: np.ndarray
    order: np.ndarray
    begins: np.ndarray


def _spans_of(timeline: Timeline) -> Spans:
    order, begins = timeline.by_worker()
    ends = np.empty(len(order), np.int32)
    for begin in range(0, len(order), ROWS_AT_ONCE):
        mine = order[begin : begin + ROWS_AT_ONCE + 1]
        ends[mine[:-1]] = timeline.updates_of(mine[1:])
    # the last one of each worker
    ends[order[begins[1:] - 1]] = timeline.steps
    spans = Spans(ends, order, begins)
    for update in np.unique(timeline.gone[:, 0]).tolist():
        left = _last_before(spans, timeline, update)[timeline.gone[timeline.gone[:, 0] == update, 1]]
        ends[left] = np.minimum(ends[left], update)
    return spans


def _last_before(spans: Spans, timeline: Timeline, update: int) -> np.ndarray:
    """The place of the last row of each worker before an update `[n]`; -1 for none."""
    limit, bounds = int(timeline.first[update]), pairwise(spans.begins.tolist())
    found = np.array([bisect_left(spans.order, limit, begin, end) for begin, end in bounds], int) - 1
    return np.where(found >= spans.begins[:-1], spans.order[found], -1)


NEW_ALONE = LastRows()


class FindWorkers(Protocol):
    """Finds the workers of which something holds in an update, such as that their rows are forged."""

    def __call__(self, updates: np.ndarray, /) -> np.ndarray:
        """The workers of which it holds in updates `[U]`: truth values `[U, n]`."""
        ...


def table_of(
    timeline: Timeline,
    forged: FindWorkers | None,
    last_rows: LastRows = NEW_ALONE,
    unread: FindWorkers | None = None,
) -> EventTable:
    """The table of a run with one server.

    Args:
        timeline: The timeline of the run.
        forged: Finds the workers whose rows are forged; None where no row ever is.
        last_rows: The events that read last rows.
        unread: Finds those of them whose rows nobody reads as they computed them; None where every row is read.

    Returns:
        The table.
    """
    rows = timeline.rows
    readers, of_version = timeline.readers()
    # where each row stands among the readers; None where they stand in the order of the timeline
    position = None
    if readers is not None:
        position = np.empty_like(readers)
        position[readers] = np.arange(len(readers))
    spans = _spans_of(timeline) if any(last_rows) else None
    # events of an update beside its jobs: 64 bits, and so are the numbers of events, where columns may have 32
    others = np.int64(1 if forged is None else 2)

    def public_of(version: Any) -> Any:
        """The number of the event that sends a version; that of the first one is sent before all events."""
        return of_version[version] + others * version

    def forging_of(update: Any) -> Any:
        """The number of the event that forges rows of an update."""
        return public_of(update + 1) - 1

    def jobs_of(places: Any) -> Any:
        """The numbers of the events that carry out jobs."""
        own = places if position is None else position[places]
        return 1 + own.astype(int) + others * rows.versions[places]

    def find(holds: FindWorkers | None, places: np.ndarray) -> np.ndarray:
        """Truth values: the rows of whose workers something holds in the update that they arrive for."""
        if holds is None or not len(places):
            return np.zeros(len(places), bool)
        into = timeline.updates_of(places)
        begin = into.min()
        needed = np.zeros(into.max() + 1 - begin, bool)
        needed[into - begin] = True
        return holds(begin + np.flatnonzero(needed))[np.cumsum(needed)[into - begin] - 1, rows.workers[places]]

    are_forged = partial(find, forged)

    def last_of(places: np.ndarray, mine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The last events that read rows, of which some are forged: as they were computed, and as they were sent."""
        into = timeline.updates_of(places)
        sent = public_of(into + 1)
        until = into if spans is None else spans.ends[places] - 1
        if last_rows.update:
            sent = public_of(until + 1)
        elif last_rows.forging:
            sent = np.maximum(sent, forging_of(until))
        return np.where(mine, forging_of(until if last_rows.computed else into), sent), sent

    def latest_before(update: int) -> np.ndarray:
        """The rows of earlier updates that are still the last ones of their workers in an update."""
        if spans is None:
            return np.empty(0, int)
        places = _last_before(spans, timeline, update)
        places = places[places >= 0]
        return places[spans.ends[places] > update]

    def inboxes(since: int, until: int, known: np.ndarray, last: bool) -> tuple[np.ndarray, np.ndarray]:
        """The rows that events of updates read: their updates, counted from the first, and their places in `known`."""
        earlier = len(known) - int(timeline.first[until] - timeline.first[since])
        into, which = timeline.updates_of(known[earlier:]) - since, np.arange(earlier, len(known))
        if spans is None or not last:
            return into, which
        by_worker = np.full((until - since + 1, len(spans.begins) - 1), -1, np.int32)
        by_worker[0, rows.workers[known[:earlier]]] = np.arange(earlier)
        by_worker[into + 1, rows.workers[known[earlier:]]] = which
        # of a worker with several rows the last one
        by_worker = np.maximum.accumulate(by_worker)[1:]
        there = (by_worker >= 0) & (np.arange(since, until)[:, None] < spans.ends[known][by_worker])
        return np.nonzero(there)[0], by_worker[there]

    def events(since: int, until: int) -> EventBlock:
        own = np.arange(of_version[since], of_version[until])
        if readers is not None:
            own = readers[own]
        made = np.arange(since, until)
        begin, update = int(public_of(since)) + 1, public_of(made + 1)
        of_jobs, of_updates = jobs_of(own) - begin, update - begin
        count = int(public_of(until)) + 1 - begin
        step, node, turn = np.full(count, UPDATE), np.zeros(count, int), np.empty(count, int)
        row, seen, last = np.full(count, -1), np.zeros(count, int), np.arange(begin, begin + count)
        begin_s, end_s, arrive_s = np.empty((3, count))
        sizes = np.ones(count, int)
        node[of_jobs], turn[of_jobs], row[of_jobs] = rows.workers[own], rows.jobs[own], own
        step[of_jobs] = np.where(find(unread, own), UNREAD, WORK)
        begin_s[of_jobs], end_s[of_jobs], arrive_s[of_jobs] = (
            each[own] for each in (rows.received_s, rows.computed_s, rows.arrived_s)
        )
        last[of_jobs], _ = last_of(own, are_forged(own))
        turn[of_updates], seen[of_updates] = made, timeline.seen[since:until]
        for each in (begin_s, end_s, arrive_s):
            each[of_updates] = timeline.time_s[since:until]
        # the model of an update is read by the jobs of its version, and by the forging of the next update
        last[of_updates] = public_of(made + 2) - 1
        new = np.arange(timeline.first[since], timeline.first[until])
        # the rows that events of these updates read, each once
        known = np.append(latest_before(since), new)
        ours = are_forged(known)
        read, of_forging = inboxes(since, until, known, last_rows.update), of_updates - 1
        seen_by_forging = (
            read if last_rows.update == last_rows.forging else inboxes(since, until, known, last_rows.forging)
        )
        sizes[of_updates] = np.bincount(read[0], minlength=len(made))
        if forged is not None:
            step[of_forging], turn[of_forging] = FORGE, made
            seen[of_forging] = timeline.seen[since:until]
            sizes[of_forging] = np.bincount(seen_by_forging[0], minlength=len(made)) * (1 + last_rows.computed) + 1
            for each in (begin_s, end_s, arrive_s):
                each[of_forging] = timeline.time_s[since:until]
            new = new[ours[len(known) - len(new) :]]
            np.maximum.at(last, of_forging[timeline.updates_of(new) - since], last_of(new, np.ones(len(new), bool))[1])
        first = np.concatenate([[0], np.cumsum(sizes)])
        source, port, job = np.empty(first[-1], int), np.full(first[-1], -1), np.full(first[-1], -1)
        sender, version = np.zeros((2, first[-1]), np.int32)
        lag = np.full(first[-1], -1, np.int32)
        model = first[of_jobs]
        source[model], version[model] = public_of(rows.versions[own]), rows.handed[own]

        numbers, into = jobs_of(known), timeline.updates_of(known)
        as_sent = (
            np.where(ours, forging_of(into), numbers), np.where(ours, port_of(known), -1), np.where(ours, -1, known)
        )  # fmt: skip

        def read_rows(begins: np.ndarray, which: tuple[np.ndarray, np.ndarray], received: bool, newest: bool) -> None:
            """Lists rows in inboxes from some places on: as they were `received`, the newest too, or computed."""
            update, mine = which
            starts = np.cumsum(np.bincount(update, minlength=len(made)))
            at = np.arange(len(update)) + (begins - np.append(0, starts[:-1]))[update]
            source[at], job[at] = numbers[mine], known[mine]
            sender[at], version[at] = rows.workers[known][mine], rows.handed[known][mine]
            if received:
                ago = made[update] - into[mine]
                lag[at] = ago
                at, mine = (at, mine) if newest else (at[ago > 0], mine[ago > 0])
                source[at], port[at], job[at] = (each[mine] for each in as_sent)

        read_rows(first[of_updates], read, received=True, newest=True)
        if forged is not None:
            read_rows(first[of_forging], seen_by_forging, received=True, newest=False)
            if last_rows.computed:
                half = (first[of_forging] + first[of_updates] - 1) // 2
                read_rows(half, seen_by_forging, received=False, newest=False)
            model = first[of_updates] - 1
            source[model], version[model] = public_of(made), made
        bounds = np.concatenate([[0], of_updates + 1])
        return EventBlock(
            begin, step, node, turn, row, seen, begin_s, end_s, arrive_s, last, first, source, port, sender, version,
            job, lag, bounds,
        )  # fmt: skip

    def port_of(places: np.ndarray) -> np.ndarray:
        """The places of forged rows in their messages."""
        into = timeline.updates_of(places)
        ports = places - timeline.first[into]
        if spans is not None:
            # by rising numbers of workers
            for update in np.unique(into[timeline.first[into + 1] - timeline.first[into] > 1]).tolist():
                mine, workers = into == update, rows.workers[timeline.places_of(update)]
                ports[mine] = np.searchsorted(np.sort(workers), rows.workers[places[mine]])
        return ports

    def kept_rows(step: int) -> KeptRows:
        later = int(timeline.first[step])
        waiting = later + np.flatnonzero(rows.versions[later:] < step)
        applied = np.sort(latest_before(step))
        mine = are_forged(applied)
        computed, sent = np.append(applied[~mine | last_rows.computed], waiting), applied[mine][::-1]
        return KeptRows(
            np.append(-1 - sent, computed),
            np.append(forging_of(timeline.updates_of(sent)), jobs_of(computed)),
            np.append(port_of(sent), np.full(len(computed), -1)),
            np.append(last_of(sent, np.ones(len(sent), bool))[1], last_of(computed, are_forged(computed))[0]),
        )

    return EventTable(
        events=events,
        kept=lambda step: {int(public_of(step)): (SERVER, int(public_of(step + 1)) - 1)},
        rows=kept_rows,
    )
