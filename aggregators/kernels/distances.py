"""Squared distances between rows, and the sums of the smallest of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

BLOCK = 2048  # columns at a time: n rows of a block stay in the cache while every pair of them is formed


def squared_distances(rows: Array) -> Array:
    """`[n, n]` squared distances of `rows` `[n, d]`: symmetric, exactly 0 between equal rows.

    A non-finite row is infinitely far from every row, itself included: its diagonal entry is +inf, that of a finite row
    0. A square that overflows is +inf. Cost: O(n² d) time, O(n²) memory beside the rows.
    """
    n, d = rows.shape

    def of_block(block: Array) -> Array:
        # Differences first: |x|² + |y|² - 2xy is as fast, but has nothing left where rows are close together and far
        # from the origin. XLA fuses difference, square and sum, so no [n, n, BLOCK] array exists.
        differences = block[:, None, :] - block[None, :, :]
        return jnp.sum(differences * differences, axis=2)

    def add_block(index: Array, total: Array) -> Array:
        return total + of_block(lax.dynamic_slice_in_dim(rows, index * BLOCK, BLOCK, axis=1))

    blocks = d // BLOCK
    total = jnp.zeros((n, n), rows.dtype)
    if blocks:
        total = lax.fori_loop(0, blocks, add_block, total)
    if d % BLOCK:
        total = total + of_block(rows[:, blocks * BLOCK :])
    return jnp.where(jnp.isnan(total), jnp.inf, total)


def distances_to(rows: Array, point: Array) -> Array:
    """`[n]` squared distances of `rows` `[n, d]` to `point` `[d]`, +inf where a row or the point is not finite."""
    differences = rows - point
    total = jnp.sum(differences * differences, axis=1)
    return jnp.where(jnp.isnan(total), jnp.inf, total)


def finite_rows(squared: Array) -> Array:
    """`[n]` which rows are finite, read from the diagonal of their `squared_distances`."""
    return jnp.diagonal(squared) == 0


def sums_of_nearest(distances: Array) -> Callable[[Array, Array | int], Array]:
    """Sorts each row of `distances` `[n, n]` once; the result gives the sums of the smallest over any sub-pool.

    `sums_of_nearest(distances)(alive, count)` is `[n]`: for each row the sum of its `count` smallest distances to other
    rows that are alive. Each call costs O(n²).
    """
    n = distances.shape[0]
    others = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, distances)
    order = jnp.argsort(others, axis=1, stable=True)
    ascending = jnp.take_along_axis(others, order, axis=1)
    itself = order == jnp.arange(n)[:, None]

    def sums(alive: Array, count: Array | int) -> Array:
        pool = alive[order] & ~itself
        taken = pool & (jnp.cumsum(pool, axis=1) <= count)
        return jnp.sum(jnp.where(taken, ascending, 0), axis=1)

    return sums


def first_smallest(values: Array, candidates: Array) -> Array:
    """The lowest index among `candidates` `[n]` of the smallest of `values` `[n]`, which may be +inf but not NaN."""
    smallest = jnp.min(jnp.where(candidates, values, jnp.inf))
    return jnp.argmax(candidates & (values == smallest))
