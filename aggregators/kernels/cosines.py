"""Cosine distances between the directions of rows."""

import jax
import jax.numpy as jnp

from byzax.aggregators.kernels.clipping import Lengths, directions
from byzax.aggregators.kernels.measures import distances_between
from byzax.aggregators.kernels.sharding import Steps

Array = jax.Array

ROUNDING = 8  # times the spacing of numbers at 1: directions no farther apart are the same


def cosine_distances(rows: Array, lengths: Lengths) -> Steps[Array]:
    """1 minus the cosine between rows, for each pair. Cost: O(n² d).

    Half the squared distance between rows of length 1: where two point almost the same way, 1 minus their product would
    be rounding.

    Args:
        rows: `[n, d]`, or the slices of a server.
        lengths: Their lengths from the origin.

    Yields:
        One value of all coordinates.

    Returns:
        `[n, n]`, 0 for the same direction. A row that is not finite, or 0, has no direction: it is 1 away from all.
    """
    apart, _, unit = yield distances_between(directions(rows, lengths))
    directed = lengths.finite & (lengths.fraction > 0)
    squared = unit * (unit * apart)
    squared = jnp.where(squared <= (ROUNDING * jnp.finfo(rows.dtype).eps) ** 2, 0, squared)
    return jnp.where(directed[:, None] & directed[None, :], 0.5 * squared, 1)
