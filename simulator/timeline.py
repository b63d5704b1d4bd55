"""The schedule as data: which rows go into which update, and when."""

import itertools
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Outcome(IntEnum):
    """What became of a job whose row is in no update. The numbers are part of saved timelines."""

    DROPPED = 0  # arrived, and the schedule had no use for it
    LOST = 1  # its message was lost, or its worker died over it
    UNFINISHED = 2  # still under way, or never sent, when the run ended


# Workers without a job that a recorded timeline may have: a scenario has no more.
MOST_IDLE = 100_000


class Rows(NamedTuple):
    """Jobs, one entry each, `[R]`.

    Worker `workers` was handed model version `handed` (version v is the model after v updates) for its job number
    `jobs` at `started_s`, had it at `received_s`, was done at `computed_s`, and its row was at the server at
    `arrived_s`, or was lost then: seconds since the run began, NaN for what did not happen. `versions` is the model
    that the row was computed from: the one handed, or an older one where a liar replays. Two columns may be one array.
    """

    workers: np.ndarray
    jobs: np.ndarray
    versions: np.ndarray
    handed: np.ndarray
    started_s: np.ndarray
    received_s: np.ndarray
    computed_s: np.ndarray
    arrived_s: np.ndarray


NO_PAIRS = np.empty((0, 2), int)


class Timeline(NamedTuple):
    """The whole order of events of a run of T updates.

    The new rows of update t are `rows[first[t]:first[t + 1]]` (`first` `[T + 1]`); the rule sees `seen[t]` rows: these,
    or also those of other workers that the server kept, or means of them, as the schedule has it. Update t happens at
    `time_s[t]` and turns version t into version t + 1. A worker's jobs are numbered and done in order; those whose
    rows went into no update are `unused`, with their `outcomes`. `stopped` says why there are fewer updates than
    were asked for, and is empty where there are not.

    `gone` `[G, 2]`: (update, worker), from that update on the rule does not see the worker's last row any more, which
    the server had kept; until the worker's next one. `lost` `[L, 2]`: (update, worker), from that update on nothing
    came of the worker, because the process that it ran in died unplanned.
    """

    rows: Rows
    first: np.ndarray
    seen: np.ndarray
    time_s: np.ndarray
    unused: Rows
    outcomes: np.ndarray
    stopped: str = ""
    gone: np.ndarray = NO_PAIRS
    lost: np.ndarray = NO_PAIRS

    @property
    def steps(self) -> int:
        """The number of updates, T."""
        return len(self.time_s)

    @property
    def sizes(self) -> np.ndarray:
        """`[T]`: how many new rows go into each update."""
        return np.diff(self.first)

    @property
    def updates(self) -> np.ndarray:
        """`[R]`: the update that each row goes into."""
        return np.repeat(np.arange(self.steps), self.sizes)

    @property
    def ages(self) -> np.ndarray:
        """`[R]`: how many updates old the version was that each row's worker had been handed."""
        return self.updates - self.rows.handed

    def of(self, step: int) -> slice:
        """Where the rows of an update stand."""
        return slice(int(self.first[step]), int(self.first[step + 1]))

    def last_use(self) -> np.ndarray:
        """`[T + 1]`: the last update that has a row computed from each version, -1 where there is none."""
        last = np.full(self.steps + 1, -1)
        np.maximum.at(last, self.rows.versions, self.updates)
        return last

    def readers(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows in the order of the versions they were computed from, a worker's own in that of its jobs, `[R]`.

        With `[T + 2]`: those of version v are the entries from place v up to place v + 1.
        """
        order = np.lexsort((self.rows.jobs, self.rows.versions))
        return order, np.searchsorted(self.rows.versions[order], np.arange(self.steps + 2))


NO_ROWS = Rows(*(np.empty(0, np.int32),) * 4, *(np.empty(0),) * 4)


# Of a run whose order of events is not known before.
UNPLANNED = Timeline(NO_ROWS, np.zeros(1, int), np.empty(0, int), np.empty(0), NO_ROWS, np.empty(0, np.int8))


def timeline(
    workers: ArrayLike,
    versions: ArrayLike,
    jobs: ArrayLike,
    time_s: ArrayLike,
    seen: ArrayLike | None = None,
    **times_s: np.ndarray,
) -> Timeline:
    """The timeline of T updates with k new rows each: `workers`, `versions` and `jobs` `[T, k]`, `time_s` `[T]`.

    A row is started when its version is made and there when its update happens, unless `times_s` says otherwise.
    """
    who, made, number = (np.asarray(each, np.int32) for each in (workers, versions, jobs))
    when = np.asarray(time_s, float)
    if who.ndim != 2 or not (who.shape == made.shape == number.shape) or when.shape != who.shape[:1]:
        raise ValueError("timeline: workers, versions and jobs must be [T, k], and time_s [T]")
    count, k = who.shape
    started = np.concatenate([[0.0], when])[np.clip(made, 0, count)]
    arrived = np.broadcast_to(when[:, None], who.shape)
    times = {"started_s": started, "received_s": started, "computed_s": arrived, "arrived_s": arrived} | times_s
    return Timeline(
        Rows(*(each.ravel() for each in (who, number, made, made)), **{name: t.ravel() for name, t in times.items()}),
        first=np.arange(count + 1) * k,
        seen=np.full(count, k) if seen is None else np.asarray(seen),
        time_s=when,
        unused=NO_ROWS,
        outcomes=np.empty(0, np.int8),
    )


def check(timeline: Timeline, n: int) -> Timeline:
    """The same timeline, after a look that it can happen with `n` workers. Raises ValueError naming update and rule."""
    rows, unused, steps = timeline.rows, timeline.unused, timeline.steps
    for part in (rows, unused):
        if len({each.shape for each in part}) != 1 or part.workers.ndim != 1:
            raise ValueError("timeline: the arrays of its rows must all be [R]")
    whole = len(timeline.first) == steps + 1 and timeline.first[0] == 0 and timeline.first[-1] == len(rows.workers)
    if not whole or len(timeline.seen) != steps or len(timeline.outcomes) != len(unused.workers):
        raise ValueError("timeline: first must be [T + 1] from 0 to R, seen and time_s [T], outcomes as unused")
    if (empty := np.flatnonzero(timeline.sizes < 1)).size:
        raise ValueError(f"timeline: update {empty[0]} has no row")
    updates = timeline.updates

    def refuse(where: np.ndarray, what: str) -> None:
        if where.any():
            raise ValueError(f"timeline: update {updates[np.argmax(where)]} {what}")

    refuse((rows.workers < 0) | (rows.workers >= n), f"names a worker outside 0..{n - 1}")
    order = np.lexsort((rows.workers, updates))
    twice = (np.diff(updates[order]) == 0) & (np.diff(rows.workers[order]) == 0)
    refuse(np.isin(np.arange(len(order)), order[1:][twice]), "has two rows of one worker")
    future = (rows.versions < 0) | (rows.versions > rows.handed) | (rows.handed > updates)
    refuse(future, "has a row from a version that does not exist yet")
    back = ~(np.diff(timeline.time_s, prepend=0.0) >= 0)
    refuse(back[updates], "happens before the one before it")
    made_s = np.concatenate([[0.0], timeline.time_s])
    refuse(rows.started_s < made_s[rows.handed], "has a row that was started before its version was made")
    in_order = (rows.started_s <= rows.received_s) & (rows.received_s <= rows.computed_s)
    in_order &= (rows.computed_s <= rows.arrived_s) & (rows.arrived_s <= timeline.time_s[updates])
    refuse(~in_order, "has a row that arrives too late, or before it was computed")
    _check_jobs(timeline, n)
    _check_pairs(timeline, n)
    return timeline


def _check_jobs(timeline: Timeline, n: int) -> None:
    """Every job once, and a worker's in order."""
    rows, unused = timeline.rows, timeline.unused
    workers, jobs = (np.concatenate([getattr(part, name) for part in (rows, unused)]) for name in ("workers", "jobs"))
    updates = np.concatenate([timeline.updates, np.full(len(unused.workers), -1)])
    order = np.lexsort((jobs, workers))
    workers, jobs, updates = workers[order], jobs[order], updates[order]
    begins = np.searchsorted(workers, np.arange(n + 1))
    expected = np.arange(len(workers)) - begins[np.clip(workers, 0, n)]
    used = updates >= 0
    # the largest update of the worker's earlier jobs: it must be before the job's own
    wrong = jobs != expected
    before, same = updates[used][:-1], np.diff(workers[used]) == 0
    wrong[np.flatnonzero(used)[1:]] |= same & (updates[used][1:] <= before)
    if wrong.any():
        place = int(np.argmax(wrong))
        where = f"update {updates[place]}" if updates[place] >= 0 else f"worker {workers[place]}"
        raise ValueError(f"timeline: {where} has jobs out of order: a worker's jobs are numbered 0, 1, 2, ...")


def _check_pairs(timeline: Timeline, n: int) -> None:
    """A row leaves when it is there, and what leaves is not new."""
    rows, updates = timeline.rows, timeline.updates
    for name, pairs in (("gone", timeline.gone), ("lost", timeline.lost)):
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.min(initial=0) < 0 or pairs[:, 1].max(initial=-1) >= n:
            raise ValueError(f"timeline: {name} must be pairs of an update and a worker in 0..{n - 1}")
    for update, worker in timeline.gone.tolist():
        mine = updates[rows.workers == worker]
        if update >= timeline.steps or update in mine or not (mine < update).any():
            raise ValueError(f"timeline: update {update} has the row of worker {worker} leave, which it does not keep")


def truncate(timeline: Timeline, steps: int) -> Timeline:
    """The timeline of the same run where it ends with its first `steps` updates.

    A row that a liar let go at the very moment of the last update counts as one that waited.
    """
    if steps >= timeline.steps:
        return timeline
    rows, unused, count = timeline.rows, timeline.unused, int(timeline.first[steps])
    later = Rows(*(np.concatenate([one[count:], other]) for one, other in zip(rows, unused, strict=True)))
    # rows that wait at the end have no update any more
    outcomes = np.concatenate([np.full(len(rows.jobs) - count, Outcome.DROPPED, np.int8), timeline.outcomes])
    end = timeline.time_s[steps - 1] if steps else -np.inf
    outcomes = np.where(later.arrived_s <= end, outcomes, Outcome.UNFINISHED).astype(np.int8)
    begun = later.handed < steps
    return Timeline(
        rows=Rows(*(each[:count] for each in rows)),
        first=timeline.first[: steps + 1],
        seen=timeline.seen[:steps],
        time_s=timeline.time_s[:steps],
        unused=Rows(*(each[begun] for each in later)),
        outcomes=outcomes[begun],
        gone=timeline.gone[timeline.gone[:, 0] < steps],
        lost=timeline.lost[timeline.lost[:, 0] < steps],
    )


# The arrays of a saved timeline beside those of its rows.
ALONE, PAIRS = ("first", "seen", "time_s", "outcomes"), ("gone", "lost")


def save(timeline: Timeline, file: Any) -> None:
    """Writes a timeline to a path or open file, as compressed NumPy arrays."""
    parts = {"rows": timeline.rows, "unused": timeline.unused}
    arrays = {f"{part}.{name}": value for part, rows in parts.items() for name, value in rows._asdict().items()}
    alone = {name: getattr(timeline, name) for name in (*ALONE, *PAIRS)}
    np.savez_compressed(file, **arrays, **alone, stopped=np.array(timeline.stopped))


def load(path: Path) -> Timeline:
    """A timeline that `save` wrote. Raises ValueError naming the file where it is none, or damaged."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            rows, unused = (
                Rows(**{name: arrays[f"{part}.{name}"] for name in Rows._fields}) for part in ("rows", "unused")
            )
            alone = {name: arrays[name] for name in ALONE}
            # a file of an earlier version has none
            alone |= {name: arrays[name] for name in PAIRS if name in arrays}
            made = Timeline(rows=rows, unused=unused, **alone, stopped=str(arrays["stopped"]))
            numbers = [*rows[:4], *unused[:4], made.first, made.seen, made.outcomes]
            times = [*rows[4:], *unused[4:], made.time_s]
            if any(each.dtype.kind not in "iu" for each in numbers) or any(each.dtype.kind != "f" for each in times):
                raise TypeError("not the types that save writes")
            if any(each.ndim != 1 for each in (*numbers, *times)):
                raise IndexError("not the shapes that save writes")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error}): a timeline.npz is needed") from None
    except Exception as error:
        raise ValueError(f"{path}: is no timeline, or damaged ({type(error).__name__})") from None
    n = 1 + int(np.concatenate([made.rows.workers, made.unused.workers]).max(initial=-1))
    try:
        if n > len(made.rows.workers) + len(made.unused.workers) + MOST_IDLE:
            raise ValueError(f"timeline: names worker {n - 1}, and so many there cannot be")
        return check(made, n)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path}: {error}") from None


class Usage(NamedTuple):
    """What became of each worker's time, `[n]`: its jobs by their end, and seconds computing, on the way and idle."""

    used: np.ndarray
    dropped: np.ndarray
    lost: np.ndarray
    unfinished: np.ndarray
    computing_s: np.ndarray
    messages_s: np.ndarray
    waiting_s: np.ndarray


def usage(timeline: Timeline, n: int) -> Usage:
    """How each of `n` workers spent the run up to its last update; an unfinished job counts as computing."""
    rows, unused = timeline.rows, timeline.unused
    end = float(timeline.time_s[-1]) if timeline.steps else 0.0

    def count(workers: np.ndarray, seconds: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(workers, seconds, n)

    everything = Rows(*(np.concatenate(pair) for pair in zip(rows, unused, strict=True)))
    over = np.fmin(everything.arrived_s, end)
    # what did not happen lasted until all was over
    times = [np.fmin(t, over) for t in everything[4:]]
    down, computing, up = (count(everything.workers, np.diff(pair, axis=0)[0]) for pair in itertools.pairwise(times))
    ends = [count(unused.workers[timeline.outcomes == outcome]) for outcome in Outcome]
    waiting = np.maximum(end - down - computing - up, 0)
    used, (dropped, lost, unfinished) = count(rows.workers), ends
    return Usage(used, dropped, lost, unfinished, computing, down + up, waiting)
