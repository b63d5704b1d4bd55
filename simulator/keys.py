"""Random keys, derived from the seed, the purpose, the worker and the job, never from the order of events."""

from enum import IntEnum

import jax
import numpy as np


class Purpose(IntEnum):
    """The use of a key.

    The numbers are part of every recorded result: append, never renumber.
    """

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
    BYZANTINE = 17
    DROPOUT = 18
    AUGMENT = 19
    SPELLS = 20
    NODE = 21
    LINKS = 22
    WIRE = 23
    NOISE = 24
    SERVER_NOISE = 25
    MASKS = 26
    GRAPH = 30
    PARTNER = 31
    PULL = 40


def derive(root: jax.Array, purpose: Purpose, *indices: jax.Array | int) -> jax.Array:
    """Derives a key of JAX.

    Args:
        root: Root key of the run.
        purpose: The use of the key.
        *indices: Worker and job, or the server's step.

    Returns:
        The key, the same for the same arguments.
    """
    key = jax.random.fold_in(root, int(purpose))
    for index in indices:
        key = jax.random.fold_in(key, index)
    return key


def generator(seed: int, purpose: Purpose, *indices: int) -> np.random.Generator:
    """Derives a random generator of NumPy, for what is prepared on the host: the split, the partition, the schedule.

    Args:
        seed: Seed of the run.
        purpose: The use of the generator.
        *indices: As of `derive`.

    Returns:
        The generator, in the same state for the same arguments.
    """
    return np.random.default_rng([seed, int(purpose), *indices])
