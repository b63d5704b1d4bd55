"""A schedule in virtual time: the whole order of events, before any gradient."""

import heapq
from collections.abc import Iterable
from enum import IntEnum

import numpy as np

from simulator import arrivals
from simulator.arrivals import Book, Job
from simulator.durations import Draw, one_by_one
from simulator.parts import Crash
from simulator.timeline import EMPTY, Rows, Timeline

# Jobs of all workers that are drawn at once where all wait for all.
DRAWN_AT_ONCE = 1_000_000


class Event(IntEnum):
    """What happens at a moment; at the same moment what was foreseen first happens first."""

    ARRIVE = 0
    LOSE = 1
    DIE = 2
    BACK = 3
    SUSPECT = 4


def planned(book: Book, draws: list[Draw], crashes: Iterable[Crash]) -> Timeline:
    """The timeline of a run whose jobs take what `draws` says, and whose workers die as `crashes` says.

    Events are ordered by time, then by the order in which they were foreseen. Where no further update can come the
    timeline ends with the last one, and says why.
    """
    queue: list[tuple[float, int, Event, int, int]] = []
    spans = [one_by_one(draw) for draw in draws]
    watched: set[int] = set()
    foreseen = 0
    # events after which an update is still possible
    hopes = 0

    def foresee(when: float, event: Event, worker: int, job: int = 0) -> None:
        nonlocal foreseen, hopes
        heapq.heappush(queue, (when, foreseen, event, worker, job))
        foreseen += 1
        hopes += event in (Event.ARRIVE, Event.LOSE, Event.BACK)

    def carry_out(begun: list[Job], now: float) -> None:
        for job in begun:
            down, compute, up, lost = next(spans[job.worker])
            job.received_s = now + down
            job.computed_s = job.received_s + compute
            job.arrived_s = job.computed_s + up
            foresee(job.arrived_s, Event.LOSE if lost else Event.ARRIVE, job.worker, job.job)
            watch(job.worker, now)

    def watch(worker: int, from_s: float) -> None:
        if book.schedule.suspect_after_s is not None and worker not in watched:
            watched.add(worker)
            foresee(from_s + book.schedule.suspect_after_s, Event.SUSPECT, worker)

    for crash in crashes:
        foresee(crash.at, Event.DIE, crash.worker)
        if crash.back is not None:
            foresee(crash.back, Event.BACK, crash.worker)
    now = 0.0
    for worker in range(book.n):
        watch(worker, now)
    carry_out(arrivals.start(book, now), now)
    while not arrivals.over(book):
        stuck = arrivals.stuck(book)
        liar = arrivals.held(book) if book.ready and (stuck or not hopes) else None
        if liar is not None:
            carry_out(arrivals.release(book, liar, now), now)
            continue
        if not queue or (stuck and not _returning(queue)):
            return arrivals.closed(book, arrivals.why(book, now), now)
        when, _, event, worker, number = heapq.heappop(queue)
        hopes -= event in (Event.ARRIVE, Event.LOSE, Event.BACK)
        match event:
            case Event.ARRIVE | Event.LOSE:
                job = book.open.get(worker)
                if job is None or job.job != number:
                    # it died over it
                    continue
                now = when
                happened = arrivals.arrive if event == Event.ARRIVE else arrivals.lose
                carry_out(happened(book, worker, now), now)
            case Event.DIE:
                arrivals.die(book, worker, when)
            case Event.BACK:
                now = when
                carry_out(arrivals.back(book, worker, now), now)
            case Event.SUSPECT:
                watched.remove(worker)
                blocked = worker in book.idle and not book.schedule.free(book.board, worker)
                assert book.schedule.suspect_after_s is not None
                if arrivals.since(book, worker) + book.schedule.suspect_after_s > when:
                    watch(worker, arrivals.since(book, worker))
                elif blocked and hopes:
                    # it waits for others, which is not its fault
                    watch(worker, when)
                elif not blocked and worker not in book.suspected:
                    now = when
                    carry_out(arrivals.suspect(book, worker, now), now)
    return arrivals.closed(book, "", now)


def _returning(queue: list[tuple[float, int, Event, int, int]]) -> bool:
    return any(event == Event.BACK for _, _, event, _, _ in queue)


def in_step(steps: int, draws: list[Draw]) -> Timeline:
    """The timeline of `planned` where every update waits for one row of every worker and nothing is lost.

    By whole blocks of updates: 100,000 of 1,000 workers take seconds.
    """
    n = len(draws)
    block = max(1, DRAWN_AT_ONCE // n)
    step = np.arange(steps, dtype=np.int32)
    time_s = np.empty(steps)
    started, received, computed, arrived = (np.empty((steps, n)) for _ in range(4))
    now = 0.0
    for first in range(0, steps, block):
        count = min(block, steps - first)
        own = slice(first, first + count)
        down, compute, up, _ = (
            np.stack(part, axis=1) for part in zip(*(draw(first, count) for draw in draws), strict=True)
        )
        if down.any() or up.any():
            for t in range(count):
                started[first + t] = now
                received[first + t] = now + down[t]
                computed[first + t] = received[first + t] + compute[t]
                arrived[first + t] = computed[first + t] + up[t]
                time_s[first + t] = now = arrived[first + t].max()
        else:
            # sums of one after the other, as events would add them
            ends = np.add.accumulate(np.concatenate([[now], compute.max(axis=1)]))
            started[own] = received[own] = ends[:-1, None]
            computed[own] = arrived[own] = ends[:-1, None] + compute
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
        unused=EMPTY,
        outcomes=np.empty(0, np.int8),
    )  # fmt: skip
