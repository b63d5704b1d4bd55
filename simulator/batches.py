"""Batches: how a worker draws samples from its own, and the fixed batches of variance reduction."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

Array = jax.Array

Batches = Literal["replacement", "without_replacement", "poisson"]

# The largest probability that a Poisson batch has more samples than there are places.
OVERFLOW = 1e-30


def draw_batch(key: Array, held: Array, longest: int, batch_size: int, batches: Batches) -> tuple[Array, Array | None]:
    """Draws a batch of a worker's samples.

    Args:
        key: Key.
        held: Number of the worker's samples.
        longest: The most samples of a worker.
        batch_size: Samples of a batch; of a Poisson batch as many as are expected.
        batches: The draw of its samples.

    Returns:
        Places `[b]` of the samples among the worker's own, and their shares `[b]`, None where all have 1/b. Of a
        Poisson batch b is `poisson_width`, and places that only fill it up come last and have the share 0.
    """
    if batches == "replacement":
        return jax.random.randint(key, (batch_size,), 0, held), None
    order, numbers = shuffled(key, held, longest)
    if batches == "without_replacement":
        return order[:batch_size], None
    # each sample by itself: those whose number in [0, 1) is below the rate
    drawn = numbers < batch_size / held
    width = min(longest, poisson_width(batch_size))
    return order[:width] % held, jnp.where(drawn[:width], 1 / batch_size, 0.0)


def shuffled(key: Array, held: Array, longest: int) -> tuple[Array, Array]:
    """Draws a random order of a worker's samples.

    Args:
        key: Key.
        held: Number of the worker's samples.
        longest: The most samples of a worker.

    Returns:
        The places in this order `[longest]`, those from `held` on last, and the rising numbers `[longest]`, uniform in
        [0, 1), that they were ordered by, infinite for these.
    """
    numbers = jax.random.uniform(key, (longest,))
    numbers = jnp.where(jnp.arange(longest) < held, numbers, jnp.inf)
    order = jnp.argsort(numbers)
    return order, numbers[order]


def poisson_width(batch_size: int) -> int:
    """The number of places of a Poisson batch.

    Args:
        batch_size: Samples that are expected.

    Returns:
        So many that more are drawn with a probability of at most `OVERFLOW`, by Chernoff's bound for a sum of
        independent choices of this mean: P(at least x) <= exp(x - mean) (mean / x)^x.
    """
    size = batch_size + 1
    while size - batch_size + size * math.log(batch_size / size) > math.log(OVERFLOW):
        size += 1
    return size - 1


def draw_fixed_batch(draw: Array, held: Array, batch_size: int) -> tuple[Array, Array]:
    """Draws one of the fixed batches of a worker.

    Args:
        draw: Key.
        held: Number of the worker's samples.
        batch_size: Samples of a batch.

    Returns:
        The number of the batch drawn, and how many batches the worker has: as few as hold all its samples.
    """
    count = -(-held // batch_size)
    return jax.random.randint(draw, (), 0, count), count
