"""A data set of the tests: sequences of characters, the label being the character that comes next."""

from functools import lru_cache

import numpy as np

from byzax.simulator.data.base import Dataset


@lru_cache
def letters(*, samples: int = 300, length: int = 8, vocabulary: int = 6) -> Dataset:
    """Characters of which each is the one before and a step further, round and round; the step is the sequence's own.

    Samples: as many as asked for

    References:
        Made for the tests
    """
    rng = np.random.default_rng(0)
    start, step = rng.integers(0, vocabulary, samples), rng.integers(1, vocabulary, samples)
    whole = ((start[:, None] + step[:, None] * np.arange(length + 1)) % vocabulary).astype(np.int32)
    return Dataset(np.ascontiguousarray(whole[:, :-1]), np.ascontiguousarray(whole[:, -1]), vocabulary)
