"""The events of a run in their order: in virtual time, before any gradient, or as they happen."""

import heapq
from array import array
from collections.abc import Callable, Generator, Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from byzax.simulator import arrivals, interrupts, stopping
from byzax.simulator.book import Book, Job, close, over, since
from byzax.simulator.config.latency import Crash, Outage
from byzax.simulator.durations import Draw, iterate_jobs
from byzax.simulator.outages import build_departures
from byzax.simulator.timeline import NO_ROWS, Rows, Timeline

# Jobs of all workers that are drawn at once where all wait for all.
DRAWN_AT_ONCE = 1_000_000
# Rows, for each worker, that may arrive at one moment without an update: far more than bad luck with lost messages.
AT_ONE_MOMENT = 100


class Event(IntEnum):
    """The kind of an event; at the same moment what was foreseen first happens first."""

    ARRIVE = 0
    LOSE = 1
    DIE = 2
    BACK = 3
    SUSPECT = 4
    VANISH = 5


# What may bring an update.
HOPES = (Event.ARRIVE, Event.LOSE, Event.BACK)

# (when, event, worker, its job number) puts an event into the queue
Foresee = Callable[[float, Event, int, int], None]


class Clock(NamedTuple):
    """The carrying out of jobs, and the passing of time.

    `begin(job, foresee)` carries out a job that was begun; what becomes of it is foreseen then or later. `wait(due,
    foresee)` returns when the next event of the queue is `due` (None: the queue is empty, and a job under way must put
    one there); None where time is virtual and every event is foreseen at once. `computed(attacker, foresee)` waits for
    the row that an attacker holds back, and tells whether it could be computed; None where it always is.
    """

    begin: Callable[[Job, Foresee], None]
    wait: Callable[[Callable[[], float | None], Foresee], None] | None = None
    computed: Callable[[int, Foresee], bool] | None = None


def planned(book: Book, draws: list[Draw], crashes: Iterable[Crash], outages: Sequence[Outage] = ()) -> Timeline:
    """The timeline of a run whose jobs take what `draws` says, and whose workers die as `crashes` says.

    During an outage that loses messages a worker that is cut off from the server asks for a model when it is over; a
    row that it sent meanwhile is lost, as any other. Where no further update can come it ends with the last one, and
    says why.
    """
    spans = [iterate_jobs(draw) for draw in draws]
    server = "server", 0
    departures = [
        [build_departures(outages, [link]) for link in ((server, ("worker", i)), (("worker", i), server))]
        for i in range(len(draws) if outages else 0)
    ]

    def leaves(worker: int, way: int, sent_s: float) -> tuple[float, bool]:
        if not departures:
            return sent_s, False
        at_s, lost = departures[worker][way](np.array([sent_s]))
        return float(at_s[0]), bool(lost[0])

    def begin(job: Job, foresee: Foresee) -> None:
        down, compute, up, lost = next(spans[job.worker])
        given_s, missing = leaves(job.worker, 0, job.started_s)
        if missing:
            # it never had the model
            foresee(given_s, Event.LOSE, job.worker, job.job)
            return
        job.received_s = given_s + down
        job.computed_s = job.received_s + compute
        sent_s, missing = leaves(job.worker, 1, job.computed_s)
        job.arrived_s = (job.computed_s if missing else sent_s) + up
        foresee(job.arrived_s, Event.LOSE if lost or missing else Event.ARRIVE, job.worker, job.job)

    # 4 bytes for each update, since planning takes most memory at its end, when the book copies these columns
    book.first, book.seen = array("i", book.first), array("i", book.seen)
    events = follow(book, Clock(begin), crashes)
    while True:
        try:
            next(events)
        except StopIteration as end:
            # its board refers to the book: a cycle, which would keep the book until the garbage collector comes
            book.board = None
            return _without_repeats(end.value)


def _without_repeats(timeline: Timeline) -> Timeline:
    """The same timeline, with one array for columns that are equal and one number for all updates that see as many."""

    def one_of(column: np.ndarray, other: np.ndarray) -> np.ndarray:
        # by their bits: NaN is NaN
        bits = f"i{column.itemsize}"
        return other if np.array_equal(column.view(bits), other.view(bits)) else column

    def shared(rows: Rows) -> Rows:
        return rows._replace(
            handed=one_of(rows.handed, rows.versions),
            received_s=one_of(rows.received_s, rows.started_s),
            arrived_s=one_of(rows.arrived_s, rows.computed_s),
        )

    seen = timeline.seen
    if (seen == seen[:1]).all():
        seen = np.broadcast_to(seen[:1].copy(), len(seen))
    return timeline._replace(rows=shared(timeline.rows), unused=shared(timeline.unused), seen=seen)


def follow(book: Book, clock: Clock, crashes: Iterable[Crash]) -> Generator[None, None, Timeline]:
    """Carries out events one by one, ordered by time and then by the order in which they were foreseen.

    Raises ValueError where time stands still: workers deliver rows without end, and the next update waits for others.
    """
    queue: list[tuple[float, int, Event, int, int]] = []
    patience = book.schedule.suspect_after_s
    watched: set[int] = set()
    foreseen = 0
    # jobs under way and workers that come back: what may still bring an update
    hopes = 0
    # rows that arrived at this moment since the last update
    at_once, step = 0, 0

    def foresee(when: float, event: Event, worker: int, job: int = 0) -> None:
        nonlocal foreseen
        heapq.heappush(queue, (when, foreseen, event, worker, job))
        foreseen += 1

    def carry_out(begun: list[Job]) -> None:
        nonlocal hopes
        hopes += len(begun)
        for job in begun:
            clock.begin(job, foresee)
            watch(job.worker, job.started_s)

    def watch(worker: int, from_s: float) -> None:
        if patience is not None and worker not in watched:
            watched.add(worker)
            foresee(from_s + patience, Event.SUSPECT, worker)

    if (computed := clock.computed) is not None:
        book.computed = lambda attacker: computed(attacker, foresee)
    for crash in crashes:
        _, worker = crash.node
        foresee(crash.at, Event.DIE, worker)
        if crash.back is not None:
            hopes += 1
            foresee(crash.back, Event.BACK, worker)
    now = 0.0
    for worker in range(book.n):
        watch(worker, now)
    carry_out(arrivals.start(book, now))
    while not over(book):
        interrupts.check()
        yield
        stuck = stopping.stuck(book)
        attacker = arrivals.held(book) if book.ready and (stuck or not hopes) else None
        if attacker is not None:
            carry_out(arrivals.release(book, attacker, now))
            continue
        if (not queue and not hopes) or (stuck and not _changing(queue)):
            return close(book, stopping.why(book, now), now)
        if clock.wait is not None:
            clock.wait(lambda: queue[0][0] if queue else None, foresee)
        when, _, event, worker, number = heapq.heappop(queue)
        hopes -= event in HOPES
        match event:
            case Event.ARRIVE | Event.LOSE:
                job = book.open.get(worker)
                if job is None or job.job != number:
                    # it died over it
                    continue
                at_once = at_once + 1 if (when, book.step) == (now, step) else 0
                now, step = when, book.step
                if at_once > AT_ONE_MOMENT * book.n:
                    raise ValueError(
                        f"time stands still at {now:.6g} s: workers whose jobs take no time deliver rows without end, "
                        f"and the next update waits for {book.schedule.waits(book.board)}: give every job a latency "
                        "above 0"
                    )
                happened = arrivals.arrive if event == Event.ARRIVE else arrivals.lose
                carry_out(happened(book, worker, now))
            case Event.DIE:
                carry_out(arrivals.die(book, worker, when))
            case Event.VANISH:
                now = when
                carry_out(arrivals.vanish(book, worker, now))
            case Event.BACK:
                now = when
                carry_out(arrivals.back(book, worker, now))
            case Event.SUSPECT:
                watched.remove(worker)
                blocked = worker in book.idle and not book.schedule.free(book.board, worker)
                assert patience is not None
                if since(book, worker) + patience > when:
                    watch(worker, since(book, worker))
                elif blocked and hopes:
                    # it waits for others, which is not its fault
                    watch(worker, when)
                elif not blocked and worker not in book.suspected:
                    now = when
                    carry_out(arrivals.suspect(book, worker, now))
    return close(book, "", now)


def _changing(queue: list[tuple[float, int, Event, int, int]]) -> bool:
    """Tells whether a worker will come back, or be found dead, after which others may be asked."""
    return any(event in (Event.BACK, Event.VANISH) for _, _, event, _, _ in queue)


def in_step(steps: int, draws: list[Draw]) -> Timeline:
    """The timeline of `planned` where every update waits for one row of every worker and nothing is lost.

    By whole blocks of updates: 100,000 of 1,000 workers take seconds.
    """
    n = len(draws)
    block = max(1, DRAWN_AT_ONCE // n)
    step = np.arange(steps, dtype=np.int32)
    time_s = np.empty(steps)
    started, computed = np.empty((2, steps, n))
    # what messages without delay would only repeat is not written twice
    received, arrived = started, computed
    now = 0.0
    for first in range(0, steps, block):
        interrupts.check()
        count = min(block, steps - first)
        own = slice(first, first + count)
        drawn = [draw(first, count) for draw in draws]
        compute = np.stack([each.compute for each in drawn])
        if any(each.down.any() or each.up.any() for each in drawn):
            if received is started:
                received, arrived = started.copy(), computed.copy()
            down, up = (np.stack(part).T for part in ([e.down for e in drawn], [e.up for e in drawn]))
            for t in range(count):
                started[first + t] = now
                received[first + t] = now + down[t]
                computed[first + t] = received[first + t] + compute[:, t]
                arrived[first + t] = computed[first + t] + up[t]
                time_s[first + t] = now = arrived[first + t].max()
        else:
            # sums of one after the other, as events would add them
            ends = np.add.accumulate(np.concatenate([[now], compute.max(axis=0)]))
            started[own] = ends[:-1, None]
            np.add(ends[:-1, None], compute.T, out=computed[own])
            if received is not started:
                received[own], arrived[own] = started[own], computed[own]
            time_s[own], now = ends[1:], ends[-1]
    numbers = np.repeat(step, n)
    return Timeline(
        rows=Rows(
            np.tile(np.arange(n, dtype=np.int32), steps), numbers, numbers, numbers,
            started.ravel(), received.ravel(), computed.ravel(), arrived.ravel(),
        ),
        first=np.arange(steps + 1) * n,
        seen=np.full(steps, n),
        time_s=time_s,
        unused=NO_ROWS,
        outcomes=np.empty(0, np.int8),
    )  # fmt: skip
