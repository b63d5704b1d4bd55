"""The table of a run whose updates are made of the same events, of which some may not happen or read fewer messages."""

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

import numpy as np

from byzax.simulator.events import EventBlock, EventTable, KeptRows, NodeStep
from byzax.simulator.timeline import Timeline

# The step whose events are the jobs of workers: a job takes the time that the timeline gives it, any other event none.
WORK = "work"


class Message(NamedTuple):
    """The message that an event sent.

    Attributes:
        step: The step of the event, by its name.
        node: Its node.
        port: The row of a message that holds several; -1 for the whole message.
        before: Whether the event is one of an update before.
    """

    step: str
    node: int
    port: int = -1
    before: bool = False


def before(step: str, node: int) -> Message:
    """The message that a node sent last in an update before; in the first one `Network.show` of its first state.

    Args:
        step: The step by which it was sent, by its name.
        node: The node.

    Returns:
        The message.
    """
    return Message(step, node, before=True)


class RoundEvent(NamedTuple):
    """An event of every update.

    Attributes:
        step: Its step, by its name.
        node: Its node, among those of the step's kind.
        reads: The messages that it reads, one of an update before as the last. Where the timeline says for the step
            which of the others it reads (`Timeline.rounds`), it reads these.
    """

    step: str
    node: int
    reads: Sequence[Message] = ()


class Layout(NamedTuple):
    """The events of one update and what they may read, E events and M messages.

    Attributes:
        step: `[E]`, as its place among the steps.
        node: `[E]`.
        first: `[E + 1]`, where the messages that an event reads begin.
        reader: `[M]`, the event that reads each.
        source: `[M]`, the event that sent it.
        port: `[M]`.
        old: `[M]`, whether it is one of an update before.
        sender: `[M]`, the node that it counts as one of: of a forged row its worker.
        origin: `[M]`, the event that sent it; of a forged row the one whose row was forged.
    """

    step: np.ndarray
    node: np.ndarray
    first: np.ndarray
    reader: np.ndarray
    source: np.ndarray
    port: np.ndarray
    old: np.ndarray
    sender: np.ndarray
    origin: np.ndarray


class Happening(NamedTuple):
    """The events of T updates that happen, the messages that these read, and the times.

    Attributes:
        happened: `[T, E]`; None where all do.
        taken: `[T, M]`; None where all are read.
        times_s: Gives of the updates from one number up to another the seconds at which each event begins, ends, and
            its message is there, `[t, E]`, and the place in `Timeline.rows` of its job, -1 for none.
    """

    happened: np.ndarray | None
    taken: np.ndarray | None
    times_s: Callable[[int, int], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


class Shown(NamedTuple):
    """The messages of updates before that events read, by the event that sends them.

    Attributes:
        current: Gives for an event and numbers of updates the message of it that these read.
        last: Gives for an event and numbers of updates the last event that reads that message.
    """

    current: Callable[[int, np.ndarray], np.ndarray]
    last: Callable[[int, np.ndarray], np.ndarray]


def round_table(steps: Sequence[NodeStep], events: Sequence[RoundEvent], timeline: Timeline) -> EventTable:
    """The table of a run whose updates are made of the same events.

    Args:
        steps: The steps.
        events: The events of one update, in an order in which they can be carried out; one of the step `work` for each
            worker.
        timeline: The timeline of the run: with the times of all nodes, or with one row of every worker in each update.

    Returns:
        The table. Events have the times of `Timeline.rounds`: one that forges messages happens when these are read, and
        any other that has no times there once its node is done with the one before and its messages are sent. Without
        these times jobs have those of their rows, and all other events happen at the second of their update.

    Raises:
        ValueError: Names the first event that cannot be, and what is wrong with it; or says which schedule to take.
    """
    layout = _lay_out(steps, events)
    happening = _in_rounds(steps, events, layout, timeline) if timeline.rounds else _in_step(events, layout, timeline)
    count, kinds = len(events), [steps[i].kind for i in layout.step]
    happened, taken = happening.happened, happening.taken
    sizes = np.broadcast_to(count, timeline.steps) if happened is None else happened.sum(axis=1)
    # the number of the first event of each update
    numbers = 1 + np.concatenate([[0], np.cumsum(sizes)])
    shown = _build_shown(layout, happening, numbers)
    kept_events = np.unique(layout.source[layout.old]).tolist()

    def table(since: int, until: int) -> EventBlock:
        updates = np.arange(since, until)[:, None]
        there = np.ones((until - since, count), bool) if happened is None else happened[since:until]
        reads = np.ones((until - since, len(layout.source)), bool) if taken is None else taken[since:until]
        number = numbers[since:until, None] + np.cumsum(there, axis=1) - 1
        source, last = number[:, layout.source], number.copy()
        now = reads & ~layout.old
        update, place = np.nonzero(now)
        np.maximum.at(last, (update, layout.source[place]), number[update, layout.reader[place]])
        for event in kept_events:
            mine = layout.old & (layout.source == event)
            source[:, mine] = shown.current(event, updates)
            last[:, event] = np.maximum(last[:, event], shown.last(event, updates[:, 0] + 1))
        inbox, rows = (_counted(each) for each in (reads, now))
        begins = layout.first[layout.source]
        # the place of a forged row is among those that the forging event reads
        port = np.where(layout.port < 0, -1, inbox[:, begins + np.maximum(layout.port, 0)] - inbox[:, begins])
        begin_s, end_s, arrive_s, row = happening.times_s(since, until)
        job = np.where((layout.port < 0) & ~layout.old, row[:, layout.source], -1)

        def of_events(values: np.ndarray) -> np.ndarray:
            return np.broadcast_to(values, there.shape)[there]

        def of_reads(values: np.ndarray) -> np.ndarray:
            return np.broadcast_to(values, reads.shape)[reads]

        return EventBlock(
            begin=int(numbers[since]),
            step=of_events(layout.step),
            node=of_events(layout.node),
            turn=of_events(updates),
            row=of_events(row),
            seen=of_events(np.diff(rows[:, layout.first], axis=1)),
            begin_s=of_events(begin_s),
            end_s=of_events(end_s),
            arrive_s=of_events(arrive_s),
            last=of_events(last),
            first=np.concatenate([[0], np.cumsum(of_events(np.diff(inbox[:, layout.first], axis=1)))]),
            source=of_reads(source),
            port=of_reads(port),
            sender=of_reads(layout.sender),
            version=of_reads(updates),
            job=of_reads(job),
            lag=np.zeros(int(reads.sum()), int),
            bounds=numbers[since : until + 1] - numbers[since],
        )

    def kept(update: int) -> dict[int, tuple[tuple[str, int], int]]:
        at = np.array([update])
        found = {}
        for event in kept_events:
            node = kinds[event], int(layout.node[event])
            if (last := int(shown.last(event, at)[0])) >= numbers[min(update, timeline.steps)]:
                found[int(shown.current(event, at)[0])] = node, last
        return found

    def kept_rows(update: int) -> KeptRows:
        nothing = np.empty(0, int)
        return KeptRows(nothing, nothing, nothing, nothing)

    return EventTable(table, kept, kept_rows)


def _counted(which: np.ndarray) -> np.ndarray:
    """`[t, M + 1]`, the number of truths before each place."""
    return np.concatenate([np.zeros((len(which), 1), int), np.cumsum(which, axis=1)], axis=1)


def _in_step(events: Sequence[RoundEvent], layout: Layout, timeline: Timeline) -> Happening:
    """All events of updates that have one row of every worker. Raises ValueError for other updates."""
    n = _workers(events, timeline)
    works, rows = np.array([event.step == WORK for event in events]), timeline.rows
    columns = [each.reshape(-1, n) for each in (rows.received_s, rows.computed_s, rows.arrived_s)]

    def times_s(since: int, until: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        shape = until - since, len(events)
        found = [np.broadcast_to(timeline.time_s[since:until, None], shape).copy() for _ in columns]
        for times, own in zip(found, columns, strict=True):
            times[:, works] = own[since:until][:, layout.node[works]]
        row = np.full(shape, -1)
        row[:, works] = np.arange(since, until)[:, None] * n + layout.node[works]
        begin_s, end_s, arrive_s = found
        return begin_s, end_s, arrive_s, row

    return Happening(None, None, times_s)


def _in_rounds(
    steps: Sequence[NodeStep], events: Sequence[RoundEvent], layout: Layout, timeline: Timeline
) -> Happening:
    """The events of updates in which each node goes on by itself."""
    by_step, count = {times.step: times for times in timeline.rounds}, len(events)
    happened = np.ones((timeline.steps, count), bool)
    taken = np.ones((timeline.steps, len(layout.source)), bool)
    # the seconds of an event that is no step of the rounds
    at_s: dict[int, np.ndarray] = {}
    done_s: dict[tuple[str, int], np.ndarray] = {}
    sent_s: dict[int, np.ndarray] = {}
    for e, event in enumerate(events):
        reads = np.arange(layout.first[e], layout.first[e + 1])
        kind, times = (steps[layout.step[e]].kind, event.node), by_step.get(event.step)
        if times is not None:
            happened[:, e] = np.isfinite(times.end_s[:, event.node])
            new = reads[~layout.old[reads]]
            if len(new):
                taken[:, new] = times.taken[:, event.node, : len(new)]
            taken[:, reads] &= happened[:, e, None]
            sent_s[e] = np.where(happened[:, e], times.end_s[:, event.node], 0)
            done_s[kind] = np.maximum(done_s.get(kind, 0), np.maximum.accumulate(sent_s[e]))
        elif not steps[layout.step[e]].forges or not _read_in_time(e, layout, events, by_step):
            now = layout.source[reads[~layout.old[reads]]]
            given = [sent_s[source] for source in now.tolist() if source in sent_s]
            at_s[e] = sent_s[e] = np.max([done_s.get(kind, np.zeros(timeline.steps)), *given], axis=0)
    for e in range(count):
        if not steps[layout.step[e]].forges or e in at_s:
            continue
        forged = np.flatnonzero((layout.source == e) & (layout.port >= 0))
        reads = np.arange(layout.first[e], layout.first[e + 1])
        if not len(forged):
            continue
        # for which receiver it forges
        receiver = int(layout.reader[forged[0]])
        theirs = range(layout.first[receiver], layout.first[receiver + 1])
        places = {int(layout.origin[place]): place for place in theirs if not layout.old[place]}
        happened[:, e] = happened[:, receiver]
        for place in reads.tolist():
            # of rows that the receiver may read those that it does, and of others all
            theirs = None if layout.old[place] else places.get(int(layout.origin[place]))
            taken[:, place] = happened[:, e] if theirs is None else taken[:, theirs]
        at_s[e] = by_step[events[receiver].step].begin_s[:, events[receiver].node]

    def times_s(since: int, until: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        begin_s, end_s = np.empty((2, until - since, count))
        for e, event in enumerate(events):
            if e in at_s:
                begin_s[:, e] = end_s[:, e] = at_s[e][since:until]
            else:
                times = by_step[event.step]
                begin_s[:, e], end_s[:, e] = (each[since:until, event.node] for each in (times.begin_s, times.end_s))
        # rows are read in their update alone, in which no place is needed for them
        return begin_s, end_s, end_s, np.full(begin_s.shape, -1)

    return Happening(None if happened.all() else happened, None if taken.all() else taken, times_s)


def _read_in_time(e: int, layout: Layout, events: Sequence[RoundEvent], by_step: Container[str]) -> bool:
    """True where a step of the rounds reads the messages that an event forges, or nobody does."""
    readers = layout.reader[(layout.source == e) & (layout.port >= 0)].tolist()
    return not readers or events[readers[0]].step in by_step


def _build_shown(layout: Layout, happening: Happening, numbers: np.ndarray) -> Shown:
    count, happened = len(layout.step), happening.happened
    readers = {
        event: np.unique(layout.reader[layout.old & (layout.source == event)])
        for event in np.unique(layout.source[layout.old]).tolist()
    }
    if happened is None:

        def message(event: int, updates: np.ndarray) -> np.ndarray:
            return 1 + (updates - 1) * count + event

        return Shown(message, lambda event, updates: 1 + updates * count + int(readers[event].max()))
    steps = len(happened)
    current, last = {}, {}
    for event, mine in readers.items():
        number = {
            e: np.where(happened[:, e], numbers[:-1] + happened[:, :e].sum(axis=1), 0) for e in {event, *mine.tolist()}
        }
        # that of the first state, and then the last one that was sent
        sent = np.concatenate([[1 - count + event], number[event]])
        current[event] = np.where(np.maximum.accumulate(sent) > 0, np.maximum.accumulate(sent), sent[0])
        read = np.maximum.accumulate(np.max([number[e] for e in mine.tolist()], axis=0))
        # until the update in which the next one is sent
        following = np.searchsorted(np.flatnonzero(happened[:, event]), np.arange(steps + 1))
        ends = np.append(np.flatnonzero(happened[:, event]), steps - 1)[following]
        last[event] = read[ends] if steps else np.zeros(1, int)
    return Shown(lambda event, updates: current[event][updates], lambda event, updates: last[event][updates])


def _lay_out(steps: Sequence[NodeStep], events: Sequence[RoundEvent]) -> Layout:
    """The events of an update. Raises ValueError for one that cannot be."""
    kinds, numbers = {step.name: step.kind for step in steps}, {step.name: i for i, step in enumerate(steps)}
    places: dict[tuple[str, int], int] = {}
    for place, event in enumerate(events):
        if event.step not in numbers:
            raise ValueError(f"{_name(events, place)}: is of none of the steps {', '.join(numbers)}")
        if event[:2] in places:
            raise ValueError(f"{_name(events, place)}: is event {places[event[:2]]} too: list it once")
        places[event[:2]] = place
    last = {(kinds[event.step], event.node): event for event in events}
    for place, event in enumerate(events):
        for step, node, _, earlier in event.reads:
            sent = f"{_name(events, place)}: reads the message of {step} {node}, which"
            if (step, node) not in places:
                raise ValueError(f"{sent} is no event of an update")
            if not earlier and places[step, node] >= place:
                raise ValueError(f'{sent} comes later: list it before this one, or read before("{step}", {node})')
            later = last[kinds[step], node].step
            if earlier and later != step:
                raise ValueError(
                    f'{sent} is not the last one of its node in an update: read before("{later}", {node}), which is'
                )
        if any(read.before for read in event.reads[:-1]):
            raise ValueError(
                f"{_name(events, place)}: reads messages of the update before: list one of them at most, as the last"
            )
    reads = [read for event in events for read in event.reads]
    source = np.array([places[read.step, read.node] for read in reads], int)
    port, old = np.array([read.port for read in reads], int), np.array([read.before for read in reads], bool)
    first = np.concatenate([[0], np.cumsum([len(event.reads) for event in events])])
    node = np.array([event.node for event in events], int)
    origin = np.where(port < 0, source, source[np.clip(first[source] + port, 0, max(len(source) - 1, 0))])
    return Layout(
        step=np.array([numbers[event.step] for event in events]),
        node=node,
        first=first,
        reader=np.repeat(np.arange(len(events)), np.diff(first)),
        source=source,
        port=port,
        old=old,
        sender=node[origin],
        origin=origin,
    )


def _name(events: Sequence[RoundEvent], place: int) -> str:
    return f"event {place} of an update, {events[place].step} {events[place].node}"


def _workers(events: Sequence[RoundEvent], timeline: Timeline) -> int:
    """The number of workers. Raises ValueError unless each has a row in every update, and one event of the step."""
    n, workers = int(timeline.sizes[0]), timeline.rows.workers
    if len(workers) != n * timeline.steps or (workers.reshape(-1, n) != np.arange(n)).any():
        raise ValueError("an update needs one row of every worker: take schedule synchronous with quorum all")
    listed = [event.node for event in events if event.step == WORK]
    if wrong := sorted({*listed} ^ {*range(n)}):
        raise ValueError(f"an update needs one event of the step {WORK} for each of {n} workers: look at {wrong[0]}")
    return n
