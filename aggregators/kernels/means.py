"""Means of some of the rows and weighted sums of differences."""

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

UNROLLED = 96  # rows added one by one up to here: XLA fuses that into one pass, where jnp.mean takes 40 times as long


def mean_of(rows: Array, chosen: Array) -> tuple[Array, Array]:
    """The mean `[d]` of the rows where `chosen` `[n]` is true, and their weights `[n]`.

    Rows that are not chosen are never multiplied by zero: 0 times NaN or infinity is NaN.
    """
    n = rows.shape[0]
    weights = chosen / jnp.sum(chosen).astype(rows.dtype)
    if n <= UNROLLED:
        total = jnp.zeros_like(rows[0])
        for i in range(n):
            total = total + jnp.where(chosen[i], weights[i] * rows[i], 0)
        return total, weights
    kept = jnp.where(chosen[:, None], rows, 0)
    return jnp.matmul(weights, kept, precision=lax.Precision.HIGHEST), weights


def pull(rows: Array, weights: Array, point: Array) -> Array:
    """The sum of weights[i] (rows[i] - point), `[d]`; differences come first, since rows may be close to the point."""
    n = rows.shape[0]
    if n <= UNROLLED:
        total = jnp.zeros_like(point)
        for i in range(n):
            total = total + weights[i] * (rows[i] - point)
        return total
    return jnp.matmul(weights, rows - point, precision=lax.Precision.HIGHEST)
