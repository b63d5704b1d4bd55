"""A schedule of the tests: two groups of workers in turn, each computing from a model that is some updates old."""

import numpy as np

from simulator.timeline import Timeline


def lagging(*, age: int = 2):
    """Even workers in even updates, odd workers in odd ones; the rows of the odd ones are `age` updates old.

    Waits: for half of the workers.
    Source: made for the tests
    """

    def plan(n: int, steps: int, rng: np.random.Generator) -> Timeline:
        k, step = n // 2, np.arange(steps)
        workers = (2 * np.arange(k) + step[:, None] % 2).astype(np.int64)
        versions = np.maximum(0, step - age * (step % 2))[:, None].repeat(k, axis=1)
        jobs = (step // 2)[:, None].repeat(k, axis=1)
        return Timeline(workers, versions, jobs, step + 0.5)

    return plan
