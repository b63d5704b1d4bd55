"""Means of some of the rows and weighted sums of differences."""

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.kernels.blocks import Part, block_width, map_blocks

Array = jax.Array

UNROLLED = 96  # rows added one by one up to here: XLA fuses that into one pass, where jnp.mean takes 40 times as long


def mean_of(rows: Array, chosen: Array) -> tuple[Array, Array]:
    """The mean of some rows.

    Rows that are not chosen are never multiplied by zero: 0 times NaN or infinity is NaN.

    Args:
        rows: `[n, d]`.
        chosen: `[n]`, true for the rows averaged.

    Returns:
        The mean `[d]` and the weights `[n]` of the rows.
    """
    n = rows.shape[0]
    weights = chosen / jnp.sum(chosen).astype(rows.dtype)
    if n <= UNROLLED:
        total = jnp.zeros_like(rows[0])
        for i in range(n):
            total = total + jnp.where(chosen[i], weights[i] * rows[i], 0)
        return total, weights

    def weighted(part: Part) -> Array:
        return jnp.matmul(weights, jnp.where(chosen[:, None], part(rows), 0), precision=lax.Precision.HIGHEST)

    return map_blocks(rows.shape[1], block_width(rows), weighted), weights


def sum_of_differences(rows: Array, weights: Array, point: Array) -> Array:
    """The weighted sum of the differences to a point; they come first, since rows may be close to the point.

    Args:
        rows: `[n, d]`.
        weights: `[n]`.
        point: `[d]`.

    Returns:
        The sum of weights[i] (rows[i] - point), `[d]`.
    """

    def pulled(part: Part) -> Array:
        return jnp.matmul(weights, part(rows) - part(point), precision=lax.Precision.HIGHEST)

    return map_blocks(rows.shape[1], block_width(rows), pulled)


def group_means(rows: Array, groups: int) -> Array:
    """The means of groups of neighbouring rows.

    Args:
        rows: `[n, d]`.
        groups: Number of groups; the first n mod `groups` have one row more.

    Returns:
        `[groups, d]`.
    """
    n, d = rows.shape
    size, larger = divmod(n, groups)

    def of_size(part: Array, size: int) -> Array:
        part = part.reshape(-1, size, d)
        if size > UNROLLED:
            return jnp.matmul(jnp.full(size, 1 / size, rows.dtype), part, precision=lax.Precision.HIGHEST)
        share = power_of_two_share(size, rows.dtype)
        total = part[:, 0] * share
        for i in range(1, size):
            total = total + part[:, i] * share
        return total / (size * share)

    split = larger * (size + 1)
    parts = [of_size(rows[:split], size + 1)] if larger else []
    return jnp.concatenate([*parts, of_size(rows[split:], size)])


def power_of_two_share(count: int, dtype: jnp.dtype) -> Array:
    """A power of two that is at most 1/`count`: the sum of so many values times it is exact and cannot overflow.

    Args:
        count: Number of values.
        dtype: Type of the result.

    Returns:
        `[]`.
    """
    # XLA would add first and multiply by a power of two afterwards, if it knew that it is one
    return lax.optimization_barrier(jnp.asarray(0.5 ** (count - 1).bit_length(), dtype))
