"""A schedule of the tests: the same few workers in every update, in an order that the seed decides."""

import numpy as np

from simulator.timeline import Timeline


def subset(*, count: int = 5, age: int = 0):
    """`count` workers drawn once, in the order drawn; every second row is `age` updates old.

    Waits: for the workers drawn.
    Source: made for the tests
    """

    def plan(n: int, steps: int, rng: np.random.Generator) -> Timeline:
        step = np.arange(steps)
        rows = step[:, None].repeat(count, axis=1)
        versions = np.maximum(0, rows - age * (np.arange(count) % 2))
        return Timeline(np.tile(rng.permutation(n)[:count], (steps, 1)), versions, rows, step + 1.0)

    return plan
