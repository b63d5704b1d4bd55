"""Rows moved, scaled and drawn in, so that sums of distances to them neither overflow nor lose their digits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.kernels.columns import order_statistics
from byzax.aggregators.kernels.distances import largest_entries, pairwise_distances, typical_size
from byzax.aggregators.kernels.sharding import Steps, largest_of

Array = jax.Array


class NormalisedRows(NamedTuple):
    """The rows moved by their centre and divided by their usual distance from it, far ones drawn in.

    Attributes:
        rows: `[n, d]`, as they were.
        points: `[n, d]`, shrink (rows - centre) / scale, and 0 for rows that are not finite.
        finite: `[n]`.
        shrink: `[n]`, 1 but for far rows.
        scale: `[]`.
        centre: `[d]`.
    """

    rows: Array
    points: Array
    finite: Array
    shrink: Array
    scale: Array
    centre: Array


def normalise(rows: Array) -> Steps[NormalisedRows]:
    """Rows around their coordinate-wise median, in units of their usual distance from it, if most are not there.

    A row at 1e30 counts in a sum of unit vectors like any other, but its square overflows. It is drawn in to a distance
    at which moving it farther would not change a float.

    Args:
        rows: `[n, d]`, or the slices of a server.

    Yields:
        One value of all coordinates.

    Returns:
        The rows and what was done to them.
    """
    (centre,) = order_statistics(rows, [(len(rows) - 1) // 2])
    # else XLA fuses the median into its uses and computes it for each row
    centre = lax.optimization_barrier(centre)
    radii = yield largest_of(largest_entries(rows, lambda row: row - centre))
    finite = jnp.isfinite(radii)
    common = typical_size(radii, finite)
    scale = jnp.where(finite.any() & (common > 0), common, 1)
    shrink = jnp.minimum(1, 16 * scale / (jnp.finfo(rows.dtype).eps * jnp.where(finite, radii, 1)))
    shrink = jnp.where(finite & (radii > 0), shrink, 1)
    points = jnp.where(finite[:, None], (rows - centre) * (shrink / scale)[:, None], 0)
    return NormalisedRows(rows, points, finite, shrink, scale, centre)


def squared_distances(normalised: NormalisedRows) -> Array:
    """The squared distances between the points.

    Args:
        normalised: The rows.

    Returns:
        `[n, n]`.
    """
    squared, _, unit = pairwise_distances(normalised.points)
    return squared * unit**2
