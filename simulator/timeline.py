"""The schedule as data: which rows go into which update, and when."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Timeline(NamedTuple):
    """The whole order of events of a run of T updates with k rows each, known before any gradient.

    Row j of update t comes from worker `workers[t, j]`, which computed it as its job number `jobs[t, j]` from the model
    version `versions[t, j]` (version v is the model after v updates). Update t happens at `time_s[t]` virtual seconds
    and turns version t into version t + 1. A worker's jobs are done in order.
    """

    workers: np.ndarray
    versions: np.ndarray
    jobs: np.ndarray
    time_s: np.ndarray

    @property
    def ages(self) -> np.ndarray:
        """`[T, k]`: how many updates old the version was that each row was computed from."""
        return np.arange(len(self.time_s))[:, None] - self.versions

    def last_use(self) -> np.ndarray:
        """`[T + 1]`: the last update that has a row computed from each version, -1 where there is none."""
        last = np.full(len(self.time_s) + 1, -1)
        updates = np.broadcast_to(np.arange(len(self.time_s))[:, None], self.versions.shape)
        np.maximum.at(last, self.versions, updates)
        return last


def check(timeline: Timeline, n: int) -> Timeline:
    """The same timeline, after a look that it can happen with `n` workers. Raises ValueError naming update and rule."""
    workers, versions, jobs, time_s = timeline
    if workers.ndim != 2 or not (workers.shape == versions.shape == jobs.shape) or time_s.shape != workers.shape[:1]:
        raise ValueError("timeline: workers, versions and jobs must be [T, k], and time_s [T]")

    def refuse(where: ArrayLike, what: str) -> None:
        if np.any(where):
            raise ValueError(f"timeline: update {int(np.argmax(where))} {what}")

    refuse(((workers < 0) | (workers >= n)).any(axis=1), f"names a worker outside 0..{n - 1}")
    in_order = np.sort(workers, axis=1)
    refuse((in_order[:, 1:] == in_order[:, :-1]).any(axis=1), "has two rows of one worker")
    refuse(
        (versions < 0).any(axis=1) | (timeline.ages < 0).any(axis=1), "has a row from a version that does not exist yet"
    )
    refuse(~(np.diff(time_s, prepend=0.0) >= 0), "happens before the one before it")
    expected = np.zeros(n, jobs.dtype)
    for t, (who, job) in enumerate(zip(workers, jobs, strict=True)):
        if (job != expected[who]).any():
            raise ValueError(f"timeline: update {t} has jobs out of order: a worker's jobs are numbered 0, 1, 2, ...")
        expected[who] += 1
    return timeline
