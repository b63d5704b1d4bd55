"""Rows around their coordinate-wise median, for sums of distances to them: a row far away is drawn in."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.kernels.columns import sorted_rows
from byzax.aggregators.kernels.distances import longest, pairwise, usual

Array = jax.Array


class Scene(NamedTuple):
    """The rows as the search sees them: moved by `centre`, divided by `scale`, far ones drawn in.

    points `[n, d]` = shrink (rows - centre) / scale, and 0 for rows that are not finite.
    """

    rows: Array
    points: Array
    finite: Array  # [n]
    shrink: Array  # [n], 1 but for far rows
    scale: Array
    centre: Array  # [d]


def scene_of(rows: Array) -> Scene:
    """Rows around their coordinate-wise median, in units of their usual distance from it, if most are not there.

    A row at 1e30 pulls with a unit vector like any other, but its square overflows. It is drawn in to a distance at
    which moving it farther would not change a float.
    """
    (centre,) = sorted_rows(rows, [(len(rows) - 1) // 2])
    centre = lax.optimization_barrier(centre)  # else XLA fuses the median into its uses and computes it for each row
    radii = longest(rows, lambda columns, part: columns - part(centre))
    finite = jnp.isfinite(radii)
    common = usual(radii, finite)
    scale = jnp.where(finite.any() & (common > 0), common, 1)
    shrink = jnp.minimum(1, 16 * scale / (jnp.finfo(rows.dtype).eps * jnp.where(finite, radii, 1)))
    shrink = jnp.where(finite & (radii > 0), shrink, 1)
    points = jnp.where(finite[:, None], (rows - centre) * (shrink / scale)[:, None], 0)
    return Scene(rows, points, finite, shrink, scale, centre)


def squared_between(scene: Scene) -> Array:
    """`[n, n]`: the squared distances between the points."""
    squared, _, unit = pairwise(scene.points)
    return squared * unit**2
