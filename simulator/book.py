"""The book of a run: who works on what, which rows wait, and what is over."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.schedules import Board, Schedule, Situation
from byzax.simulator.timeline import Outcome, Rows, Timeline
from byzax.simulator.timings import Timing

NEVER = float("nan")


@dataclass(slots=True)
class Job:
    """A job under way or waiting; the fields of `timeline.Rows`.

    `answered`: whether its row is ever sent.
    """

    worker: int
    job: int
    version: int
    handed: int
    started_s: float
    received_s: float = NEVER
    computed_s: float = NEVER
    arrived_s: float = NEVER
    answered: bool = True


class Columns:
    """Jobs that are over, one after the other, in columns that grow: 48 bytes for each job."""

    def __init__(self) -> None:
        """No jobs yet."""
        self._columns: list[array[Any]] = [array(each) for each in "iiiidddd"]
        self._append = [column.append for column in self._columns]

    def add(self, job: Job) -> None:
        """One more."""
        worker, number, version, handed, started_s, received_s, computed_s, arrived_s = self._append
        worker(job.worker)
        number(job.job)
        version(job.version)
        handed(job.handed)
        started_s(job.started_s)
        received_s(job.received_s)
        computed_s(job.computed_s)
        arrived_s(job.arrived_s)

    def rows(self, first: int = 0, end: int | None = None) -> Rows:
        """Those from place `first` up to `end`, as arrays of their own."""
        return Rows(*(np.array(column[first:end], column.typecode) for column in self._columns))

    def taken(self) -> Rows:
        """All of them without a copy, after which none can be added."""
        return Rows(*(np.frombuffer(column, column.typecode) for column in self._columns))

    def copied(self) -> "Columns":
        """The same jobs, to which others can be added."""
        made = Columns()
        for mine, other in zip(made._columns, self._columns, strict=True):
            mine.extend(other)
        return made


class ByzantineSenders(NamedTuple):
    """The Byzantine workers of a run, and when they send.

    Attributes:
        workers: The Byzantine workers.
        timing: The times at which they send.
        name: Name of the timing, for messages.
        participating: Number of them that take part in every update, where a schedule asks few; None: any number.
    """

    workers: frozenset[int]
    timing: Timing
    name: str
    participating: int | None = None


@dataclass
class Book:
    """All that is known at one moment. `open`: what each busy worker is at; `ready`: rows that attackers hold back.

    `replied`: the update in which a Byzantine worker took up its last job. `kept`: the version that the last used row
    of a worker was handed; `gone`: whose row left the table, `leaving`: when (update, worker). `lost`: the workers
    whose process died, and the first update that lacks them. `computed`: tells whether the row that an attacker holds
    back is there; in a race its process may have died over it.

    Whoever calls keeps the time, and says when an open job arrives.
    """

    schedule: Schedule
    senders: ByzantineSenders
    n: int
    steps: int
    least: int
    order: Callable[[int], Sequence[int]] | None = None
    computed: Callable[[int], bool] = lambda attacker: True
    asked: set[int] = field(default_factory=set)
    step: int = 0
    open: dict[int, Job] = field(default_factory=dict)
    ready: dict[int, Job] = field(default_factory=dict)
    waiting: dict[int, Job] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    suspected: set[int] = field(default_factory=set)
    replied: dict[int, int] = field(default_factory=dict)
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
    outcomes: array = field(default_factory=lambda: array("b"))
    first: array = field(default_factory=lambda: array("q", [0]))
    seen: array = field(default_factory=lambda: array("q"))
    time_s: array = field(default_factory=lambda: array("d"))
    board: Any = None


def open_book(schedule: Schedule, senders: ByzantineSenders, least: int, situation: Situation) -> Book:
    """The book before anything happened: all workers idle."""
    n, steps = situation.n, situation.steps
    order = None if schedule.order is None else schedule.order(situation)
    book = Book(schedule, senders, n, steps, least, order)
    book.idle, book.numbers, book.clocks, book.at_clock = set(range(n)), [0] * n, [0] * n, {0: n}
    book.heard_s = [0.0] * n
    renew_board(book)
    return book


def over(book: Book) -> bool:
    """Tells whether all updates are made."""
    return book.step >= book.steps


def since(book: Book, worker: int) -> float:
    """The time of the last sign of a worker: it delivered a row, or was handed the job that it is at."""
    return book.open[worker].started_s if worker in book.open else book.heard_s[worker]


def renew_board(book: Book) -> None:
    """Renews the board that the schedule sees; the sets in it are the book's own."""
    book.board = Board(
        book.step,
        book.least,
        book.waiting.keys(),
        book.known,
        book.clocks,
        lambda: book.slowest,
        lambda: (book.gone | leaving_table(book)) - book.waiting.keys(),
    )


def leaving_table(book: Book) -> set[int]:
    """Workers whose row leaves the table with the next update: dead ones with a row that is too old."""
    if not book.schedule.forgets or not book.dead:
        return set()
    oldest = book.schedule.oldest
    dead = (book.dead & book.known) - book.gone - book.waiting.keys()
    return {worker for worker in dead if oldest is None or book.step - book.kept[worker] > oldest}


def end_job(book: Book, job: Job, outcome: Outcome, now: float) -> None:
    """A job is over, and its row goes into no update."""
    if outcome == Outcome.LOST:
        job.arrived_s = now
    book.unused.add(_until(now, job))
    book.outcomes.append(outcome)


def timeline_of(book: Book, stopped: str, now: float) -> Timeline:
    """The timeline of what happened until now; the book stays as it is."""
    unused, outcomes = book.unused.copied(), book.outcomes[:]
    _end_open_jobs(book, unused, outcomes, now)
    return _timeline(book, book.rows.rows(), unused.taken(), outcomes, stopped)


def close(book: Book, stopped: str, now: float) -> Timeline:
    """The timeline of what happened until now, which takes the columns of the book: this is its last use."""
    _end_open_jobs(book, book.unused, book.outcomes, now)
    return _timeline(book, book.rows.taken(), book.unused.taken(), book.outcomes, stopped)


def _end_open_jobs(book: Book, unused: Columns, outcomes: array, now: float) -> None:
    for jobs, outcome in (
        (book.waiting, Outcome.DROPPED), (book.open, Outcome.UNFINISHED), (book.ready, Outcome.UNFINISHED)
    ):  # fmt: skip
        for job in jobs.values():
            unused.add(_until(now, job))
            outcomes.append(outcome)


def _timeline(book: Book, rows: Rows, unused: Rows, outcomes: array, stopped: str) -> Timeline:
    return Timeline(
        rows=rows,
        first=np.array(book.first, int),
        seen=np.array(book.seen, int),
        time_s=np.array(book.time_s, float),
        unused=unused,
        outcomes=np.array(outcomes, np.int8),
        stopped=stopped,
        gone=np.array(book.leaving, int).reshape(-1, 2),
        lost=np.array([(step, worker) for worker, step in book.lost.items()], int).reshape(-1, 2),
    )


def _until(now: float, job: Job) -> Job:
    """The job without what has not happened yet."""
    if job.started_s <= job.received_s <= job.computed_s <= job.arrived_s <= now:
        return job
    times = (job.started_s, job.received_s, job.computed_s, job.arrived_s)
    started_s, received_s, computed_s, arrived_s = (time if time <= now else NEVER for time in times)
    return Job(job.worker, job.job, job.version, job.handed, started_s, received_s, computed_s, arrived_s)
