"""The scores of Krum: sums of distances to the nearest other rows, as the paper has them and as codes do."""

from typing import Literal

import jax
import jax.numpy as jnp

Array = jax.Array
Distance = Literal["plain", "squared", "fourth"]
Neighbours = Literal["n-f", "n-f-1", "n-f-2", "n-f-3"]


def powered(squared: Array, distance: Distance) -> Array:
    """The summands of a score, from squared distances: these, their roots, or their squares."""
    if distance == "plain":
        return jnp.sqrt(squared)
    return squared if distance == "squared" else squared**2


def neighbours_of(size: Array | int, f: int, neighbours: Neighbours) -> Array:
    """The number of neighbours of a row in a pool of `size` rows: at least one, at most all others."""
    fewer = f + {"n-f": 0, "n-f-1": 1, "n-f-2": 2, "n-f-3": 3}[neighbours]
    return jnp.maximum(jnp.minimum(size - fewer, size - 1), 1)
