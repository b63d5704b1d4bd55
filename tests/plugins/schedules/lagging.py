"""A schedule of the tests: two groups of workers in turn, each computing from a model that is some updates old."""

import numpy as np

from simulator.timeline import Timeline


def lagging(*, age: int = 2):
    """Even workers in even updates, odd ones in odd updates; the rows of these are `age` updates old, or one more.

    Waits: for half of the workers.
    Source: made for the tests
    """

    def plan(n: int, steps: int, rng: np.random.Generator) -> Timeline:
        k, step = n // 2, np.arange(steps)
        workers = (2 * np.arange(k) + step[:, None] % 2).astype(np.int64)
        # as the seed decides: one more for seed 1, not for seed 0
        oldest = age + rng.integers(2)
        versions = np.maximum(0, step - oldest * (step % 2))[:, None].repeat(k, axis=1)
        jobs = (step // 2)[:, None].repeat(k, axis=1)
        return Timeline(workers, versions, jobs, step + 0.5)

    return plan
