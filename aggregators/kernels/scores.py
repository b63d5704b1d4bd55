"""The scores of Krum: sums of distances to the nearest other rows, as in the paper and as in other codes."""

from typing import Literal

import jax
import jax.numpy as jnp

Array = jax.Array
Distance = Literal["plain", "squared", "fourth"]
Neighbours = Literal["n-f", "n-f-1", "n-f-2", "n-f-3"]


def score_summands(squared: Array, distance: Distance) -> Array:
    """The summands of a score.

    Args:
        squared: `[n, n]`, squared distances.
        distance: These, their roots (`plain`), or their squares (`fourth`).

    Returns:
        `[n, n]`.
    """
    if distance == "plain":
        return jnp.sqrt(squared)
    return squared if distance == "squared" else squared**2


def neighbour_count(size: Array | int, f: int, neighbours: Neighbours) -> Array:
    """The number of neighbours of a row.

    Args:
        size: Number of rows of the pool.
        f: Number of rows that may be Byzantine.
        neighbours: The definition, for n rows.

    Returns:
        At least one, at most all others.
    """
    fewer = f + {"n-f": 0, "n-f-1": 1, "n-f-2": 2, "n-f-3": 3}[neighbours]
    return jnp.maximum(jnp.minimum(size - fewer, size - 1), 1)
