"""The server's book of who works on what, and what it does when a row arrives: the same in virtual and in real time."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from byzax.simulator.config.attack import Chosen, Honest, Late, Replay, TimingField
from byzax.simulator.schedules import Board, Schedule, Situation
from byzax.simulator.timeline import Outcome, Rows, Timeline

NEVER = float("nan")
HONEST = Honest()


@dataclass(slots=True)
class Job:
    """A job under way or waiting; the fields of `timeline.Rows`."""

    worker: int
    job: int
    version: int
    handed: int
    started_s: float
    received_s: float = NEVER
    computed_s: float = NEVER
    arrived_s: float = NEVER


@dataclass(slots=True)
class Columns:
    """Jobs that are over, one after the other: much smaller than a list of them."""

    whole: array = field(default_factory=lambda: array("i"))
    seconds: array = field(default_factory=lambda: array("d"))

    def add(self, job: Job) -> None:
        """One more."""
        self.whole.extend((job.worker, job.job, job.version, job.handed))
        self.seconds.extend((job.started_s, job.received_s, job.computed_s, job.arrived_s))

    def rows(self, first: int = 0, end: int | None = None) -> Rows:
        """Those from place `first` up to `end`, as NumPy arrays."""
        own = slice(4 * first, None if end is None else 4 * end)
        whole, seconds = np.array(self.whole[own], np.int32), np.array(self.seconds[own], float)
        return Rows(*whole.reshape(-1, 4).T.copy(), *seconds.reshape(-1, 4).T.copy())


@dataclass
class Book:
    """All that is known at one moment. `open`: what each busy worker is at; `ready`: rows that attackers hold back.

    `participating`: how many Byzantine workers take part in every update, where a schedule asks few; None: any number.
    `kept`: the version that the last used row of a worker was handed; `gone`: whose row left the table, `leaving`: when
    (update, worker). `lost`: the workers whose process died, and the first update that lacks them.

    Whoever calls keeps the time, and says when an open job arrives.
    """

    schedule: Schedule
    timing: TimingField
    n: int
    byzantine: frozenset[int]
    steps: int
    least: int
    order: Callable[[int], Sequence[int]] | None = None
    participating: int | None = None
    asked: set[int] = field(default_factory=set)
    step: int = 0
    open: dict[int, Job] = field(default_factory=dict)
    ready: dict[int, Job] = field(default_factory=dict)
    waiting: dict[int, Job] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    suspected: set[int] = field(default_factory=set)
    answered: dict[int, int] = field(default_factory=dict)
    known: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    leaving: list[tuple[int, int]] = field(default_factory=list)
    lost: dict[int, int] = field(default_factory=dict)
    kept: dict[int, int] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    clocks: list[int] = field(default_factory=list)
    heard_s: list[float] = field(default_factory=list)
    at_clock: dict[int, int] = field(default_factory=dict)
    slowest: int = 0
    arrivals: int = 0
    rows: Columns = field(default_factory=Columns)
    unused: Columns = field(default_factory=Columns)
    outcomes: list[Outcome] = field(default_factory=list)
    first: list[int] = field(default_factory=lambda: [0])
    seen: list[int] = field(default_factory=list)
    time_s: list[float] = field(default_factory=list)
    board: Any = None


def open_book(
    schedule: Schedule,
    timing: TimingField,
    byzantine: Iterable[int],
    least: int,
    situation: Situation,
    participating: int | None = None,
) -> Book:
    """The book before anything happened: all workers idle."""
    n, steps = situation.n, situation.steps
    order = None if schedule.order is None else schedule.order(situation)
    book = Book(schedule, timing, n, frozenset(byzantine), steps, least, order, participating)
    book.idle, book.numbers, book.clocks, book.at_clock = set(range(n)), [0] * n, [0] * n, {0: n}
    book.heard_s = [0.0] * n
    _look(book)
    return book


def start(book: Book, now: float) -> list[Job]:
    """Starts the run. Returns the jobs that idle workers begin, for the caller to carry out."""
    begun: list[Job] = []
    if over(book):
        return begun
    if book.order is not None:
        _ask(book, book.order, now, begun)
        return begun
    for worker in sorted(book.idle):
        if book.schedule.free(book.board, worker):
            _begin(book, worker, now, begun)
    return begun


def arrive(book: Book, worker: int, now: float) -> list[Job]:
    """Handles the arrival of a row. Returns the jobs that start as a result."""
    changed, attackers = False, []
    if worker not in book.byzantine and book.timing.name == "first":
        attackers = sorted(book.ready)
        for attacker in attackers:
            if not over(book):
                changed |= _deliver(book, book.ready.pop(attacker), now)
    if over(book):
        return []
    changed |= _deliver(book, book.open.pop(worker), now)
    return _go_on(book, [*attackers, worker], changed, now)


def held(book: Book) -> int | None:
    """The attacker that should send the row it holds back, where nothing else can happen; None where none helps."""
    useful = [attacker for attacker in book.ready if attacker not in book.waiting]
    useful = useful or ([] if stuck(book) else book.ready)
    return min(useful, default=None)


def release(book: Book, attacker: int, now: float) -> list[Job]:
    """An attacker sends the row that it holds back."""
    changed = _deliver(book, book.ready.pop(attacker), now)
    return _go_on(book, [attacker], changed, now)


def lose(book: Book, worker: int, now: float) -> list[Job]:
    """The message with a row is lost."""
    _end(book, book.open.pop(worker), Outcome.LOST, now)
    book.idle.add(worker)
    return _go_on(book, [worker], False, now)


def die(book: Book, worker: int, now: float) -> list[Job]:
    """A worker dies, with what it was at. Gives what another begins in its place."""
    book.dead.add(worker)
    book.idle.discard(worker)
    for jobs in (book.open, book.ready):
        if worker in jobs:
            _end(book, jobs.pop(worker), Outcome.LOST, now)
    return [] if book.order is None else _go_on(book, [], False, now)


def vanish(book: Book, worker: int, now: float) -> list[Job]:
    """The process of a worker died, with a row too that waits for the next update: nobody can be asked about it."""
    book.lost.setdefault(worker, book.step)
    if worker in book.waiting:
        _end(book, book.waiting.pop(worker), Outcome.LOST, now)
    return die(book, worker, now)


def back(book: Book, worker: int, now: float) -> list[Job]:
    """A dead worker is there again."""
    book.dead.discard(worker)
    book.idle.add(worker)
    return _go_on(book, [worker], False, now)


def suspect(book: Book, worker: int, now: float) -> list[Job]:
    """A worker that delivered nothing for too long no longer counts as slowest."""
    book.suspected.add(worker)
    moved = _uncount(book, book.clocks[worker])
    return _go_on(book, [worker], moved, now)


def over(book: Book) -> bool:
    """Tells whether all updates are made."""
    return book.step >= book.steps


def stuck(book: Book) -> bool:
    """Tells whether no worker that still works can bring the next update nearer, however many rows it sends.

    Found out after every second row of each at the latest, and at once where an attacker waits for just that.
    """
    if not book.arrivals or (book.arrivals % (2 * book.n) and not book.ready):
        return False
    silent = book.timing.name == "silent"
    open_ = (worker for worker in book.open if not (silent and worker in book.byzantine))
    idle = (worker for worker in book.idle if not _mute(book, worker))
    # a second row of a worker brings no update nearer; in a table, after its first update, no row waits
    return all(worker in book.waiting for worker in (*open_, *idle))


def since(book: Book, worker: int) -> float:
    """The time of the last sign of a worker: it delivered a row, or was handed the job that it is at."""
    return book.open[worker].started_s if worker in book.open else book.heard_s[worker]


def why(book: Book, now: float) -> str:
    """The reason why no further update comes, in words."""
    numbers = sorted(book.dead)
    causes = [f"{_named(numbers)} died"] if numbers else []
    if book.byzantine and book.timing.name in ("silent", "chosen"):
        attackers = _named(sorted(book.byzantine - book.dead))
        causes.append(
            f"{attackers} {'does' if len(book.byzantine) == 1 else 'do'} not answer (attack.timing {book.timing.name})"
        )
    return (
        f"stopped after {book.step} of {book.steps} updates, at {now:.6g} s: the next one waits for "
        f"{book.schedule.waits(book.board)}, and nothing more can come"
        + (f": {'; '.join(causes)}" if causes else "")
        + ": choose a smaller quorum or number of rows, another schedule, or fewer workers that fail"
    )


def closed(book: Book, stopped: str, now: float) -> Timeline:
    """The timeline of what happened until now; the book stays as it is."""
    unused, outcomes = Columns(book.unused.whole[:], book.unused.seconds[:]), list(book.outcomes)
    for jobs, outcome in (
        (book.waiting, Outcome.DROPPED), (book.open, Outcome.UNFINISHED), (book.ready, Outcome.UNFINISHED)
    ):  # fmt: skip
        for job in jobs.values():
            unused.add(_until(now, job))
            outcomes.append(outcome)
    return Timeline(
        rows=book.rows.rows(),
        first=np.array(book.first),
        seen=np.array(book.seen, int),
        time_s=np.array(book.time_s, float),
        unused=unused.rows(),
        outcomes=np.array(outcomes, np.int8),
        stopped=stopped,
        gone=np.array(book.leaving, int).reshape(-1, 2),
        lost=np.array([(step, worker) for worker, step in book.lost.items()], int).reshape(-1, 2),
    )


def lost_in_words(lost: Mapping[int, int]) -> str:
    """`workers 3, 4 lost from update 161 on`, of workers and the places, from 0, of the first updates without them."""
    if not lost:
        return ""
    return f"{_named(sorted(lost))} lost from update {min(lost.values()) + 1} on"


def _mute(book: Book, worker: int) -> bool:
    return worker in book.byzantine and book.timing.name in ("silent", "chosen")


def _named(workers: list[int]) -> str:
    listed = ", ".join(map(str, workers[:8])) + (", ..." if len(workers) > 8 else "")
    return f"worker {listed}" if len(workers) == 1 else f"workers {listed}"


def _look(book: Book) -> None:
    """Renews the board that the schedule sees; the sets in it are the book's own."""
    book.board = Board(
        book.step,
        book.least,
        book.waiting.keys(),
        book.known,
        book.clocks,
        lambda: book.slowest,
        lambda: (book.gone | _leaving(book)) - book.waiting.keys(),
    )


def _go_on(book: Book, workers: list[int], changed: bool, now: float) -> list[Job]:
    """The jobs that begin after an event at `workers`; where others may have become free (`changed`), at any worker."""
    begun: list[Job] = []
    if over(book):
        return begun
    if book.timing.name == "late":
        late, moved = _overdue(book, now)
        workers, changed = [*workers, *late], changed or moved
    if book.order is not None:
        if not over(book):
            _ask(book, book.order, now, begun)
        return begun
    for each in sorted(book.idle) if changed else workers:
        if not over(book) and each in book.idle and book.schedule.free(book.board, each):
            _begin(book, each, now, begun)
    return begun


def _ask(book: Book, order: Callable[[int], Sequence[int]], now: float, begun: list[Job]) -> None:
    """Asks for rows until so many are on their way, in the order of this update."""
    of_now = [job for jobs in (book.open, book.ready) for job in jobs.values() if job.handed == book.step]
    missing = book.schedule.asked - len(book.waiting) - len(of_now)
    if missing <= 0:
        return
    turns = order(book.step)
    # of the Byzantine and of the honest workers so many are still wanted
    room = {True: missing, False: missing}
    if book.participating is not None:
        byzantine = sum(worker in book.byzantine for worker in (*book.waiting, *(job.worker for job in of_now)))
        room[True] = book.participating - byzantine
        room[False] = missing - room[True]
    # those whose row was lost come after all that were not asked yet
    for again in (False, True):
        for worker in turns:
            is_byzantine = worker in book.byzantine
            if (
                worker in book.idle
                and worker not in book.waiting
                and (worker in book.asked) == again
                and room[is_byzantine]
            ):
                _begin(book, worker, now, begun)
                missing -= worker not in book.idle
                room[is_byzantine] -= worker not in book.idle
                book.asked.add(worker)
                if not missing:
                    return


def _overdue(book: Book, now: float) -> tuple[list[int], bool]:
    """Late attackers send rows that are old enough. Returns these workers, and whether others may have become free."""
    sent: list[int] = []
    changed = False
    assert isinstance(book.timing, Late)
    limit = book.timing.age if book.schedule.oldest is None else min(book.timing.age, book.schedule.oldest)
    # at limit 0 only what nothing else can happen without
    while limit and not over(book):
        due = [attacker for attacker, job in sorted(book.ready.items()) if book.step - job.handed >= limit]
        if not due:
            break
        sent += due[:1]
        changed |= _deliver(book, book.ready.pop(due[0]), now)
    return sent, changed


def _begin(book: Book, worker: int, now: float, begun: list[Job]) -> None:
    job = Job(worker, book.numbers[worker], book.step, book.step, now)
    if worker in book.byzantine:
        timing = book.timing
        if isinstance(timing, Chosen):
            chosen = book.step >= timing.start and (book.step - timing.start) % timing.every == 0
            if not chosen or book.answered.get(worker) == book.step:
                return
            book.answered[worker] = book.step
        if isinstance(timing, Replay):
            job.version = max(0, book.step - timing.age)
    else:
        timing = HONEST
    book.numbers[worker] += 1
    book.idle.remove(worker)
    if timing.name in ("first", "late"):
        job.received_s = job.computed_s = now
        book.ready[worker] = job
        return
    book.open[worker] = job
    if timing.name != "silent":
        begun.append(job)


def _deliver(book: Book, job: Job, now: float) -> bool:
    """A row is there; gives whether other workers than its own may have become free."""
    worker, schedule = job.worker, book.schedule
    job.arrived_s = book.heard_s[worker] = now
    book.idle.add(worker)
    book.arrivals += 1
    moved = _tick(book, worker)
    if schedule.oldest is not None and book.step - job.handed > schedule.oldest:
        _end(book, job, Outcome.DROPPED, now)
    elif worker not in book.waiting:
        book.waiting[worker] = job
    elif schedule.newest:
        _end(book, book.waiting[worker], Outcome.DROPPED, now)
        book.waiting[worker] = job
    else:
        _end(book, job, Outcome.DROPPED, now)
    if book.waiting and schedule.due(book.board):
        _update(book, now)
        moved |= not schedule.by_clock or book.timing.name == "chosen"
    return moved


def _leaving(book: Book) -> set[int]:
    """Workers whose row leaves the table with the next update: dead ones with a row that is too old."""
    if not book.schedule.forgets or not book.dead:
        return set()
    oldest = book.schedule.oldest
    dead = (book.dead & book.known) - book.gone - book.waiting.keys()
    return {worker for worker in dead if oldest is None or book.step - book.kept[worker] > oldest}


def _update(book: Book, now: float) -> None:
    leaving = _leaving(book)
    book.leaving += [(book.step, worker) for worker in sorted(leaving)]
    for worker in sorted(book.waiting):
        book.rows.add(book.waiting[worker])
        book.kept[worker] = book.waiting[worker].handed
    book.known |= book.waiting.keys()
    book.gone = (book.gone | leaving) - book.waiting.keys()
    sees = book.schedule.sees
    book.seen.append(
        len(book.known) - len(book.gone)
        if sees == "table"
        else book.schedule.buckets
        if sees == "buckets"
        else len(book.waiting)
    )
    book.first.append(book.first[-1] + len(book.waiting))
    book.time_s.append(now)
    book.waiting = {}
    book.asked = set()
    book.step += 1
    book.arrivals = 0
    _look(book)


def _end(book: Book, job: Job, outcome: Outcome, now: float) -> None:
    if outcome == Outcome.LOST:
        job.arrived_s = now
    book.unused.add(_until(now, job))
    book.outcomes.append(outcome)


def _until(now: float, job: Job) -> Job:
    """The job without what has not happened yet."""
    if job.started_s <= job.received_s <= job.computed_s <= job.arrived_s <= now:
        return job
    times = (job.started_s, job.received_s, job.computed_s, job.arrived_s)
    return Job(job.worker, job.job, job.version, job.handed, *(t if t <= now else NEVER for t in times))


def _tick(book: Book, worker: int) -> bool:
    """The worker's clock goes on; gives whether the slowest one did."""
    clock = book.clocks[worker]
    book.clocks[worker] = clock + 1
    counted = worker not in book.suspected
    alone = not book.at_clock
    book.at_clock[clock + 1] = book.at_clock.get(clock + 1, 0) + 1
    if counted:
        return _uncount(book, clock)
    book.suspected.remove(worker)
    was = book.slowest
    book.slowest = clock + 1 if alone else min(was, clock + 1)
    return book.slowest > was


def _uncount(book: Book, clock: int) -> bool:
    """One worker less at this clock; gives whether the slowest clock went on."""
    was = book.slowest
    book.at_clock[clock] -= 1
    if not book.at_clock[clock]:
        del book.at_clock[clock]
        if not book.at_clock:
            # all are under suspicion, and count again
            book.slowest = min(book.clocks)
        elif clock == was:
            book.slowest = min(book.at_clock)
    return not book.at_clock or book.slowest > was
