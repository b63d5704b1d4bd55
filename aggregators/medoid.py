"""The medoid (Kaufman and Rousseeuw 1987): the row with the smallest sum of distances to all others."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import Aggregator, Array, require, selecting
from byzax.aggregators.kernels.choosing import eligible
from byzax.aggregators.kernels.measures import distances_between
from byzax.aggregators.kernels.normalised import normalise
from byzax.aggregators.kernels.sharding import Steps, together, total_of
from byzax.options import checked

ROUNDING = 16  # times the spacing of numbers: sums that differ by less are equal


@checked
def medoid(n: int, f: int) -> Aggregator:
    """The one row with the smallest sum of distances to all rows, `[n, d] -> [d]`.

        F = x_k with the smallest |x_k - x_1| + ... + |x_k - x_n|

    Condition: n >= 2f + 1
    Cost: O(n² d)

    Some codes call it geometric median: the best of the rows in place of the best of all points. A row that is far from
    all others adds nearly the same to each sum and decides with its direction alone. Nothing is proven here of its
    kappa.

    Rows with a NaN or infinite entry are left out. Ties: of sums that are equal to rounding (16 times the spacing of
    numbers for each distance) the lowest index.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule. Weights: 1 for the row.

    Raises:
        PartError: For f < 0, or n < 2f + 1.

    Example:
        >>> import numpy as np
        >>> rule = medoid(n=4, f=1)
        >>> aggregate, _, info = rule.apply(np.array([[0], [2], [3], [1e30]], np.float32), rule.init(1))
        >>> aggregate.tolist(), info.weights.tolist()
        ([2.0], [0.0, 1.0, 0.0, 0.0])

    References:
        Kaufman and Rousseeuw 1987, "Clustering by means of medoids"
    """
    least_rows = require("medoid", n, f, factor=2, offset=1)

    def build_selection(rows: Array) -> Steps[Callable[[Array], Array]]:
        normalised = yield from normalise(rows)
        points = normalised.points
        (squared, _, unit), product = yield together(
            distances_between(points), total_of(jnp.matmul(points, points.T, precision=lax.Precision.HIGHEST))
        )
        apart = jnp.sqrt(squared * unit**2)
        squares = jnp.diagonal(product)
        norms = jnp.sqrt(squares)
        # |x_i - x_j| - |x_j|, without the digits that a row j far away would take from the sum of the distances
        below = apart + norms[None, :]
        farther = jnp.where(below > 0, (squares[:, None] - 2 * product) / jnp.where(below > 0, below, 1), 0)

        def select(alive: Array) -> Array:
            counted = eligible(alive, normalised.finite)
            sums = jnp.sum(jnp.where(counted[None, :], farther, 0), axis=1)
            best = jnp.argmin(jnp.where(counted, sums, jnp.inf))
            # no difference of distances is larger than the distance of the row from the middle
            size = jnp.sum(counted) * jnp.maximum(norms, norms[best])
            tied = sums <= sums[best] + ROUNDING * jnp.finfo(rows.dtype).eps * size
            return jnp.argmax(counted & tied)

        return select

    return selecting(n, build_selection, 2, least_rows=least_rows)
