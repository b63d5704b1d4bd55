"""The jobs and the time of each worker, summed up from a timeline."""

import itertools
from typing import NamedTuple

import numpy as np

from byzax.simulator.timeline import Outcome, Rows, Timeline


class Usage(NamedTuple):
    """The jobs and the time of each worker.

    Attributes:
        used: `[n]`, jobs whose row went into an update.
        dropped: `[n]`, jobs whose row arrived and was not used.
        lost: `[n]`, jobs whose row was lost.
        unfinished: `[n]`, jobs that were not done when the run ended.
        computing_s: `[n]`, seconds of computing.
        messages_s: `[n]`, seconds with a message on the way.
        waiting_s: `[n]`, seconds with neither.
    """

    used: np.ndarray
    dropped: np.ndarray
    lost: np.ndarray
    unfinished: np.ndarray
    computing_s: np.ndarray
    messages_s: np.ndarray
    waiting_s: np.ndarray


def usage(timeline: Timeline, n: int) -> Usage:
    """Sums up the jobs and the time of each worker, up to the last update.

    Args:
        timeline: The timeline.
        n: Number of workers.

    Returns:
        The sums; an unfinished job counts as computing.
    """
    rows, unused = timeline.rows, timeline.unused
    end = float(timeline.time_s[-1]) if timeline.steps else 0.0

    def count(workers: np.ndarray, seconds: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(workers, seconds, n)

    everything = Rows(*(np.concatenate(pair) for pair in zip(rows, unused, strict=True)))
    over = np.fmin(everything.arrived_s, end)
    # a phase of a job that did not end lasts until the job or the run is over
    times = [np.fmin(t, over) for t in everything[4:]]
    down, computing, up = (count(everything.workers, np.diff(pair, axis=0)[0]) for pair in itertools.pairwise(times))
    ends = [count(unused.workers[timeline.outcomes == outcome]) for outcome in Outcome]
    waiting = np.maximum(end - down - computing - up, 0)
    used, (dropped, lost, unfinished) = count(rows.workers), ends
    return Usage(used, dropped, lost, unfinished, computing, down + up, waiting)
