"""The timeline of a run: the rows of each update and the times of all events, as data."""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Outcome(IntEnum):
    """The fate of a job whose row is in no update. The numbers are part of saved timelines."""

    DROPPED = 0  # arrived, and the schedule did not use it
    LOST = 1  # its message was lost, or its worker died
    UNFINISHED = 2  # still under way, or never sent, when the run ended


# Rows of a timeline that are looked at together, where all are.
ROWS_AT_ONCE = 2**14


class Rows(NamedTuple):
    """R jobs with their rows; times are seconds since the run began, NaN for what did not happen.

    Version v is the model after v updates. Two columns may be one array.

    Attributes:
        workers: `[R]`, the worker of each job.
        jobs: `[R]`, the number of the job among those of its worker.
        versions: `[R]`, the version that the row was computed from: the one handed, or an older one that an attacker
            replays.
        handed: `[R]`, the version that the worker was handed.
        started_s: `[R]`, when the server sent the model.
        received_s: `[R]`, when the worker had it.
        computed_s: `[R]`, when the row was computed.
        arrived_s: `[R]`, when the row was at the server, or was lost.
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


class RoundTimes(NamedTuple):
    """The times at which the nodes of a kind took a step in each of T rounds, infinite for one that they did not take.

    Attributes:
        begin_s: `[T, nodes]`, the second at which each began it.
        end_s: `[T, nodes]`, the second at which each ended it and sent its message.
        taken: `[T, nodes, k]`, which of the messages that a node may read it read. See `RoundStep.senders`.
        step: The name of the step.
    """

    begin_s: np.ndarray
    end_s: np.ndarray
    taken: np.ndarray
    step: str

    def until(self, round_: int) -> "RoundTimes":
        """Those of the rounds before one."""
        return RoundTimes(self.begin_s[:round_], self.end_s[:round_], self.taken[:round_], self.step)


class Timeline(NamedTuple):
    """All events of a run of T updates. A worker's jobs are numbered and done in order.

    Attributes:
        rows: The R jobs whose rows go into an update, in the order of these.
        first: `[T + 1]`; the new rows of update t are those from `first[t]` up to `first[t + 1]`.
        seen: `[T]`, the number of rows that the rule sees: the new ones, or also those of other workers that the server
            kept, or means of them, by the schedule.
        time_s: `[T]`, the second at which update t turns version t into version t + 1.
        unused: The U jobs whose rows went into no update.
        outcomes: `[U]`, the `Outcome` of each.
        stopped: The reason why there are fewer updates than asked for; empty where there are not.
        gone: `[G, 2]`, pairs (update, worker): from that update on the rule does not see the worker's last row, which
            the server had kept, until the worker's next one.
        lost: `[L, 2]`, pairs (update, worker): from that update on nothing came of the worker, because the process that
            it ran in died unplanned.
        rounds: The times of all nodes where more than one node goes on by the messages that it got; else none.
        lost_servers: `[L, 2]`, pairs (update, server): as `lost`, of one of several servers.
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
    rounds: tuple[RoundTimes, ...] = ()
    lost_servers: np.ndarray = NO_PAIRS

    @property
    def steps(self) -> int:
        """The number of updates, T."""
        return len(self.time_s)

    @property
    def sizes(self) -> np.ndarray:
        """`[T]`, the number of new rows of each update."""
        return np.diff(self.first)

    @property
    def updates(self) -> np.ndarray:
        """`[R]`, the update that each row goes into."""
        return np.repeat(np.arange(self.steps, dtype=np.int32), self.sizes)

    @property
    def ages(self) -> np.ndarray:
        """`[R]`, the age of each row: updates since the version that its worker was handed."""
        return self.updates - self.rows.handed

    def places_of(self, step: int) -> slice:
        """The places in `rows` of the new rows of update `step`."""
        return slice(int(self.first[step]), int(self.first[step + 1]))

    def updates_of(self, places: np.ndarray) -> np.ndarray:
        """The updates that the rows at these places go into."""
        return np.searchsorted(self.first, places, side="right") - 1

    def by_worker(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of one worker after the other.

        Returns:
            The places of the rows `[R]`, those of one worker in the order of updates. And `[n + 1]`, where those of
            worker w are the entries from its place w up to place w + 1; n is one more than the largest worker.
        """
        workers = self.rows.workers
        parts = [slice(begin, begin + ROWS_AT_ONCE) for begin in range(0, len(workers), ROWS_AT_ONCE)]
        n = int(workers.max(initial=-1)) + 1
        counts = sum((np.bincount(workers[part], minlength=n) for part in parts), np.zeros(n, int))
        begins = np.concatenate([[0], np.cumsum(counts)])
        order, free = np.empty(len(workers), np.int32), begins[:-1].copy()
        for part in parts:
            mine = np.argsort(workers[part], kind="stable")
            counts = np.bincount(workers[part], minlength=n)
            order[np.arange(len(mine)) + np.repeat(free + counts - np.cumsum(counts), counts)] = part.start + mine
            free += counts
        return order, begins

    def readers(self) -> tuple[np.ndarray | None, np.ndarray]:
        """The rows in the order of the versions that they were computed from.

        Returns:
            The places of the rows `[R]`, those of one worker in the order of its jobs; None where they have that order
            already. And `[T + 2]`, where those of version v are the entries from its place v up to place v + 1.
        """
        versions, jobs = self.rows.versions, self.rows.jobs

        def in_order(begin: int) -> bool:
            one, other = slice(begin, begin + ROWS_AT_ONCE), slice(begin + 1, begin + ROWS_AT_ONCE + 1)
            before, after = versions[one][: len(versions[other])], versions[other]
            later = jobs[other] >= jobs[one][: len(after)]
            return bool(((after > before) | ((after == before) & later)).all())

        order = None
        if not all(map(in_order, range(0, len(versions), ROWS_AT_ONCE))):
            order = np.lexsort((jobs, versions)).astype(np.int32)
            versions = versions[order]
        begins = np.searchsorted(versions, np.arange(self.steps + 2, dtype=versions.dtype))
        return order, begins.astype(np.int32)

    @property
    def all_fresh(self) -> bool:
        """True where every row was computed from the model before its update."""
        versions, sizes = self.rows.versions, self.sizes
        at_once = max(1, ROWS_AT_ONCE // int(sizes.max(initial=1)))
        for since in range(0, self.steps, at_once):
            updates = np.arange(since, min(since + at_once, self.steps))
            mine = slice(int(self.first[since]), int(self.first[updates[-1] + 1]))
            if (versions[mine] != np.repeat(updates, sizes[updates])).any():
                return False
        return True


NO_ROWS = Rows(*(np.empty(0, np.int32),) * 4, *(np.empty(0),) * 4)


# The timeline of a run whose order of events is not known in advance.
UNPLANNED = Timeline(NO_ROWS, np.zeros(1, int), np.empty(0, int), np.empty(0), NO_ROWS, np.empty(0, np.int8))


def timeline(
    workers: ArrayLike,
    versions: ArrayLike,
    jobs: ArrayLike,
    time_s: ArrayLike,
    seen: ArrayLike | None = None,
    **times_s: np.ndarray,
) -> Timeline:
    """The timeline of T updates with k new rows each.

    Args:
        workers: `[T, k]`, the worker of each row.
        versions: `[T, k]`, the version that it was handed.
        jobs: `[T, k]`, the number of its job.
        time_s: `[T]`, the second of each update.
        seen: `[T]`, the number of rows that the rule sees; None for k.
        **times_s: `[T, k]`, the columns of times of `Rows`, in seconds. Without them a job starts when its version is
            made, takes no time on the way, and its row arrives when its update happens.

    Returns:
        The timeline.

    Raises:
        ValueError: For arrays of other shapes.
    """
    who, handed, number = (np.asarray(each, np.int32) for each in (workers, versions, jobs))
    when = np.asarray(time_s, float)
    if who.ndim != 2 or not (who.shape == handed.shape == number.shape) or when.shape != who.shape[:1]:
        raise ValueError("timeline: workers, versions and jobs must be [T, k], and time_s [T]")
    count, k = who.shape
    started = np.concatenate([[0.0], when])[np.clip(handed, 0, count)]
    arrived = np.broadcast_to(when[:, None], who.shape)
    times = {"started_s": started, "received_s": started, "computed_s": arrived, "arrived_s": arrived} | times_s
    return Timeline(
        Rows(
            *(each.ravel() for each in (who, number, handed, handed)), **{name: t.ravel() for name, t in times.items()}
        ),
        first=np.arange(count + 1) * k,
        seen=np.full(count, k) if seen is None else np.asarray(seen),
        time_s=when,
        unused=NO_ROWS,
        outcomes=np.empty(0, np.int8),
    )


def check(timeline: Timeline, n: int) -> Timeline:
    """Checks that a timeline can happen.

    Args:
        timeline: The timeline.
        n: Number of workers.

    Returns:
        The same timeline.

    Raises:
        ValueError: Where it cannot: names the update and what is wrong with it.
    """
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
    in_order = (rows.started_s <= rows.received_s) & (rows.received_s <= rows.computed_s)
    in_order &= rows.computed_s <= rows.arrived_s
    if not timeline.rounds:
        # else each node goes on by itself
        made_s = np.concatenate([[0.0], timeline.time_s])
        refuse(rows.started_s < made_s[rows.handed], "has a row that was started before its version was made")
        in_order &= rows.arrived_s <= timeline.time_s[updates]
    refuse(~in_order, "has a row that arrives too late, or before it was computed")
    _check_jobs(timeline, n)
    _check_pairs(timeline, n)
    return timeline


def _check_jobs(timeline: Timeline, n: int) -> None:
    """Raises ValueError unless the jobs of each worker are numbered 0, 1, 2, ... and used in order."""
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
    """Raises ValueError unless rows leave the table only where they are in it and are not new."""
    rows, updates = timeline.rows, timeline.updates
    for name, pairs in (("gone", timeline.gone), ("lost", timeline.lost)):
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.min(initial=0) < 0 or pairs[:, 1].max(initial=-1) >= n:
            raise ValueError(f"timeline: {name} must be pairs of an update and a worker in 0..{n - 1}")
    if (
        timeline.lost_servers.ndim != 2
        or timeline.lost_servers.shape[1] != 2
        or timeline.lost_servers.min(initial=0) < 0
    ):
        raise ValueError("timeline: lost_servers must be pairs of an update and a server")
    for update, worker in timeline.gone.tolist():
        of_worker = updates[rows.workers == worker]
        if update >= timeline.steps or update in of_worker or not (of_worker < update).any():
            raise ValueError(f"timeline: update {update} has the row of worker {worker} leave, which it does not keep")


def truncate(timeline: Timeline, steps: int) -> Timeline:
    """The timeline of the same run with fewer updates.

    Args:
        timeline: The timeline.
        steps: Number of updates, after which the run ends.

    Returns:
        The timeline of the first `steps` updates. A row that an attacker sends at the moment of the last one counts as
        dropped.
    """
    if steps >= timeline.steps:
        return timeline
    rows, unused, count = timeline.rows, timeline.unused, int(timeline.first[steps])
    later = Rows(*(np.concatenate([one[count:], other]) for one, other in zip(rows, unused, strict=True)))
    # rows that wait at the end go into no update
    outcomes = np.concatenate([np.full(len(rows.jobs) - count, Outcome.DROPPED, np.int8), timeline.outcomes])
    end = timeline.time_s[steps - 1] if steps else -np.inf
    # rows of several servers that are lost arrive at no second
    known = (later.arrived_s <= end) | (
        (outcomes == Outcome.LOST) & np.isnan(later.arrived_s) & (later.started_s <= end)
    )
    outcomes = np.where(known, outcomes, Outcome.UNFINISHED).astype(np.int8)
    begun = later.handed < steps
    if timeline.rounds:
        # a worker may be in a later round than the last of those that end one
        begun |= later.started_s <= end
    return Timeline(
        rows=Rows(*(each[:count] for each in rows)),
        first=timeline.first[: steps + 1],
        seen=timeline.seen[:steps],
        time_s=timeline.time_s[:steps],
        unused=Rows(*(each[begun] for each in later)),
        outcomes=outcomes[begun],
        gone=timeline.gone[timeline.gone[:, 0] < steps],
        lost=timeline.lost[timeline.lost[:, 0] < steps],
        rounds=tuple(times.until(steps) for times in timeline.rounds),
        lost_servers=timeline.lost_servers[timeline.lost_servers[:, 0] < steps],
    )
