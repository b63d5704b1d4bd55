"""Choices among rows and numbers: those that count, the smallest of them, and numbers that are drawn."""

import jax
import jax.numpy as jnp

from byzax.aggregators.kernels.distances import Sums
from byzax.aggregators.kernels.sharding import Slice

Array = jax.Array


def eligible(alive: Array, finite: Array) -> Array:
    """The rows to choose from.

    Args:
        alive: `[n]`, the rows that are there.
        finite: `[n]`, the rows of finite numbers.

    Returns:
        `[n]`, true for rows that are both; for all that are alive where none of them is finite.
    """
    good = alive & finite
    return jnp.where(good.any(), good, alive)


def first_of_least_sum(sums: Sums, candidates: Array) -> Array:
    """The first of the rows with the smallest sum.

    Args:
        sums: Of n rows.
        candidates: `[n]`, the rows to choose from.

    Returns:
        Its index, the lowest of equal ones.
    """
    fewest = jnp.min(jnp.where(candidates, sums.infinite, len(candidates)))
    return first_smallest(sums.finite, candidates & (sums.infinite == fewest))


def first_smallest(values: Array, candidates: Array) -> Array:
    """The first of the smallest values.

    Args:
        values: `[n]`; they may be +inf but not NaN.
        candidates: `[n]`, the values to choose from.

    Returns:
        Its index, the lowest of equal ones.
    """
    smallest = jnp.min(jnp.where(candidates, values, jnp.inf))
    return jnp.argmax(candidates & (values == smallest))


def mask_smallest(values: Array, count: Array | int, candidates: Array) -> Array:
    """The smallest values; of ties the lowest index.

    Args:
        values: `[n]`, no NaN.
        count: Number of values.
        candidates: `[n]`, the values to choose from.

    Returns:
        `[n]`, true for the `count` smallest candidates.
    """
    best_first = jnp.lexsort((values, ~candidates))
    return jnp.zeros(len(values), bool).at[best_first].set(jnp.arange(len(values)) < count)


def draw_distinct(key: Array, d: int, count: int) -> Array:
    """Draws distinct whole numbers, each set of them equally likely.

    Args:
        key: A key.
        d: The numbers are below it.
        count: Number of numbers.

    Returns:
        `[count]`; all d numbers if d is no larger.
    """
    if 4 * count > d:
        return jax.random.permutation(key, d)[:count]
    # Numbers drawn one after the other, those that were there before left out: cheaper than to permute all, and that
    # so many do not suffice has a chance below 1e-12. Then the last ones are there twice.
    picked = jax.random.randint(key, (4 * count // 3 + 60,), 0, d)
    order = jnp.argsort(picked, stable=True)
    again = jnp.zeros(len(picked), bool).at[order[1:]].set(picked[order][1:] == picked[order][:-1])
    return picked[jnp.argsort(again, stable=True)[:count]]


def columns_drawn(rows: Array, chosen: Array | None, where: Slice | None) -> tuple[Array, Array]:
    """Columns that were drawn out of all, as far as they are here.

    Args:
        rows: `[n, d]`, or the slices of a server `[n, w]`.
        chosen: The numbers of the columns out of all d; None for all of them.
        where: The slice; None where all columns are there.

    Returns:
        The columns; of a slice all `[n, w]`, with zeros in place of those that were not drawn. And those that count.
    """
    if where is None:
        some = rows if chosen is None else rows[:, chosen]
        return some, jnp.ones(some.shape[1], bool)
    width = rows.shape[1]
    here = jnp.arange(width) < where.size
    if chosen is not None:
        place = chosen - where.first
        drawn = jnp.where((place >= 0) & (place < where.size), place, width)
        here = jnp.zeros(width, bool).at[drawn].set(True, mode="drop")
    return jnp.where(here, rows, 0), here
