"""A schedule of the tests: the same few workers in every update, in an order that the seed decides."""

import numpy as np

from byzax.simulator.schedules import Schedule, Situation
from byzax.simulator.timeline import Timeline, timeline


def subset(n: int, f: int, *, count: int = 5, age: int = 0) -> Schedule:
    """`count` workers drawn once, in the order drawn; every second row is `age` updates old.

    Waits: for the workers drawn.
    Ages: up to `age`.

    References:
        Made for the tests
    """

    def plan(situation: Situation) -> Timeline:
        step = np.arange(situation.steps)
        rows = step[:, None].repeat(count, axis=1)
        versions = np.maximum(0, rows - age * (np.arange(count) % 2))
        workers = np.tile(situation.rng.permutation(situation.n)[:count], (situation.steps, 1))
        return timeline(workers, versions, rows, step + 1.0)

    return Schedule(plan=plan)
