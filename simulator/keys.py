"""Random keys, made from purpose, worker and job out of one seed and never from the order in which things happen."""

from enum import IntEnum

import jax
import numpy as np


class Purpose(IntEnum):
    """What a key is used for. The numbers are part of every recorded result: append, never renumber."""

    INIT = 0
    WORK = 1
    CORRUPT = 2
    FORGE = 3
    SPLIT = 4
    PARTITION = 5
    SCHEDULE = 6
    EVALUATE = 7
    RULE = 8
    SERVER_BATCH = 9
    GUESS = 10
    LATENCY = 11
    FACTORS = 12
    STRAGGLERS = 13
    MESSAGES = 14
    FILTER = 15
    HARM = 16
    LIARS = 17
    DROPOUT = 18
    AUGMENT = 19
    SPELLS = 20


def derive(root: jax.Array, purpose: Purpose, *indices: jax.Array | int) -> jax.Array:
    """The key for `purpose` and `indices` (worker and job, or the server's step) under the root key of a run."""
    key = jax.random.fold_in(root, int(purpose))
    for index in indices:
        key = jax.random.fold_in(key, index)
    return key


def generator(seed: int, purpose: Purpose, *indices: int) -> np.random.Generator:
    """NumPy's counterpart of `derive`, for what is prepared on the host: the split, the partition, the schedule."""
    return np.random.default_rng([seed, int(purpose), *indices])
