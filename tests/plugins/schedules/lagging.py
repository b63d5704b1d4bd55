"""A schedule of the tests: two groups of workers in turn, each computing from a model that is some updates old."""

import numpy as np

from byzax.simulator.schedules import Schedule, Situation
from byzax.simulator.timeline import Timeline, timeline


def lagging(n: int, f: int, *, age: int = 2) -> Schedule:
    """Even workers in even updates, odd ones in odd updates; the rows of these are `age` updates old, or one more.

    Waits: for half of the workers.
    Ages: up to `age` + 1.

    References:
        Made for the tests
    """

    def plan(situation: Situation) -> Timeline:
        k, step = situation.n // 2, np.arange(situation.steps)
        workers = 2 * np.arange(k) + step[:, None] % 2
        # as the seed decides: one more for seed 1, not for seed 0
        oldest = age + situation.rng.integers(2)
        versions = np.maximum(0, step - oldest * (step % 2))[:, None].repeat(k, axis=1)
        jobs = (step // 2)[:, None].repeat(k, axis=1)
        return timeline(workers, versions, jobs, step + 0.5)

    return Schedule(plan=plan)
