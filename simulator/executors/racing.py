"""A race on the clock: who is first is not known before; the schedule decides as rows come, and the order is kept."""

import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.book import Book, Job, open_book
from byzax.simulator.config.run import Run
from byzax.simulator.durations import build_draws, iterate_jobs
from byzax.simulator.executors.base import byzantine_senders, situation
from byzax.simulator.parts import least_rows, may_shrink, schedule
from byzax.simulator.planning import Clock, Event, Foresee, follow
from byzax.simulator.timeline import Rows, Timeline
from byzax.simulator.wire import wire_bits

# Seconds after which a wait looks around again.
PATIENCE_S = 1.0


class Done(NamedTuple):
    """A job that is over: when it was begun and done, by `time.time()`; None where its worker's actor died."""

    handle: Any
    times: tuple[float, float] | None


class Crew(NamedTuple):
    """Those who do the work. A handle stands for a job, or its row, that may not be done yet.

    `begin(job)` starts a job and gives its handle. `done(handles, timeout_s)` gives those that are
    done after so many seconds at most. `update(step, seen, rows, handles, gone)` sends an update with the rows of these
    handles, before which the last rows of some workers are gone, and makes the version after it public.
    `forget(version)`: no job will read this version any more.
    """

    begin: Callable[[Job], Any]
    done: Callable[[Sequence[Any], float], list[Done]]
    update: Callable[[int, int, Rows, list[Any], list[int]], None]
    forget: Callable[[int], None]


def race(run: Run, crew: Crew) -> Generator[tuple[Book, float], None, Timeline]:
    """Yields the book after every event, and the second of the race; ends with the timeline of what happened.

    Times of the scenario's latency pass for real: a row counts as there when its job is done, and not before those
    seconds are over. What is lost, and who dies, is drawn as in virtual time.
    """
    n, latency, senders = run.workers.total, run.latency, byzantine_senders(run)
    decides, fewest = schedule(run), least_rows(run)
    if decides.forgets and not may_shrink(run):
        # where a worker is lost the race then ends and says so
        fewest = n
    book = open_book(decides, senders, fewest, situation(run))
    spans = [iterate_jobs(draw) for draw in build_draws(latency, n, run.seed, wire_bits(run))]
    # each job with the seconds that it takes at least, and what comes of it: nothing yet where its row is held back
    under_way: dict[Any, tuple[Job, float, Event | None]] = {}
    # None where the actor died over it
    rows: dict[tuple[int, int], Any] = {}
    begin_s = time.time()
    last_s, sent = 0.0, 0

    def now() -> float:
        # strictly after whatever was before: events have an order
        nonlocal last_s
        last_s = max(time.time() - begin_s, np.nextafter(last_s, np.inf))
        return last_s

    def begin(job: Job, foresee: Foresee) -> None:
        nonlocal sent
        # the version that it reads may just have been made
        sent = send(sent)
        down, compute, up, lost = next(spans[job.worker])
        carry_out(job, down + compute + up, Event.LOSE if lost else Event.ARRIVE)
        job.received_s, job.computed_s = job.started_s + down, job.started_s + down + compute

    def carry_out(job: Job, least_s: float, outcome: Event | None) -> None:
        handle = rows[job.worker, job.job] = crew.begin(job)
        under_way[handle] = job, least_s, outcome

    def settle(handles: list[Any], patience_s: float, foresee: Foresee) -> None:
        for handle, times in sorted(crew.done(handles, patience_s), key=lambda each: each.times or (0.0, 0.0)):
            job, least_s, outcome = under_way.pop(handle)
            there = now()
            if times is None:
                foresee(there, Event.VANISH, job.worker, 0)
                rows[job.worker, job.job] = None
            elif outcome is not None:
                begun, done = (moment - begin_s for moment in times)
                there = max(there, job.started_s + least_s)
                job.computed_s = min(max(job.computed_s, done), there)
                job.received_s = min(max(job.received_s, begun), job.computed_s)
            if outcome is not None:
                foresee(there, outcome, job.worker, job.job)

    def computed(attacker: int, foresee: Foresee) -> bool:
        place = attacker, book.ready[attacker].job
        while rows[place] in under_way:
            settle([rows[place]], PATIENCE_S, foresee)
        return rows[place] is not None

    def wait(due: Callable[[], float | None], foresee: Foresee) -> None:
        while True:
            at, present = due(), now()
            if at is not None and at <= present:
                return
            patience = PATIENCE_S if at is None else min(PATIENCE_S, at - present)
            if under_way:
                settle(list(under_way), patience, foresee)
            else:
                time.sleep(patience)

    def send(sent: int) -> int:
        for step in range(sent, book.step):
            new = book.rows.rows(book.first[step], book.first[step + 1])
            handles = [rows.pop(key) for key in zip(new.workers.tolist(), new.jobs.tolist(), strict=True)]
            gone = [worker for update, worker in book.leaving if update == step]
            crew.update(step, book.seen[step], new, handles, gone)
            # a row may be computed from a model as much older than the one handed
            if step >= senders.timing.oldest:
                crew.forget(step - senders.timing.oldest)
        if len(rows) > 4 * n:
            kept = {(job.worker, job.job) for part in (book.open, book.ready, book.waiting) for job in part.values()}
            for key in rows.keys() - kept:
                del rows[key]
        return book.step

    def hold() -> None:
        # rows that attackers hold back have to be computed too
        for job in book.ready.values():
            if (job.worker, job.job) not in rows:
                carry_out(job, 0.0, None)

    events = follow(book, Clock(begin, wait, computed), latency.crashes)
    while True:
        try:
            next(events)
        except StopIteration as end:
            send(sent)
            return end.value
        sent = send(sent)
        hold()
        yield book, now()
