"""MoNNA (Farhadkhani et al. 2023): the mean of the rows closest to one that is trusted."""

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, in_exchanges, require
from byzax.aggregators.kernels.choosing import mask_smallest
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.kernels.measures import nearness_to
from byzax.aggregators.kernels.sharding import Steps
from byzax.options import OptionError, checked


@checked
def monna(n: int, f: int, *, pivot: int = -1) -> Aggregator:
    """The mean of the n-f rows closest to the trusted row, itself among them, `[n, d] -> [d]`.

        F = mean of the x_i with the n-f smallest |x_i - x_pivot|

    Condition: n >= 2f + 1
    Cost: O(n d)

    Every worker of the paper takes its own row for the pivot. A parameter server needs a row that it can trust, for
    instance that of a worker of its own: nothing is promised where that row is Byzantine. As the base of Bulyan the
    pivot is a place in what remains of the rows.

    Rows with a NaN or infinite entry are infinitely far from the pivot. Ties: of rows equally far from it the lowest
    index.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        pivot: Index of the trusted row, 0 to n-1, or from the end, -1 to -n.

    Returns:
        The rule. Weights: 1/(n-f) for each row averaged.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For a pivot that is no row.

    Example:
        >>> import numpy as np
        >>> rule = monna(n=4, f=1)
        >>> aggregate, _, info = rule.apply(np.array([[1], [9], [0], [2]], np.float32), rule.init(1))
        >>> aggregate.tolist(), (info.weights > 0).tolist()
        ([1.0], [True, False, True, True])

    References:
        Farhadkhani et al., ICML 2023, "Robust Collaborative Learning with Linear Gradient Overhead" (MoNNA)
    """
    required = require("monna", n, f, factor=2, offset=1)
    if not -n <= pivot < n:
        raise OptionError("pivot", f"must be one of the rows, -{n} to {n - 1}, got pivot={pivot}")
    # rows that there are where the pivot is one of them
    counted = pivot + 1 if pivot >= 0 else -pivot

    def steps(rows: Array) -> Steps[tuple[Array, Info]]:
        distances = yield nearness_to(rows, rows[pivot], itself=pivot)
        result, weights = mean_of(rows, mask_smallest(distances, n - f, jnp.ones(n, bool)))
        return result, Info(weights)

    return in_exchanges(n, steps, 1, linear=True, least_rows=lambda f: max(required(f), counted))
