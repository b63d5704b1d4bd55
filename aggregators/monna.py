"""MoNNA: the average of the rows closest to one that is trusted."""

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, require, stateless, whole
from byzax.aggregators.kernels.distances import distances_to, smallest
from byzax.aggregators.kernels.means import mean_of


def monna(n: int, f: int, *, pivot: int = -1) -> Aggregator:
    """The mean of the n-f rows closest to the trusted row, itself among them, `[n, d] -> [d]`.

        F = mean of the x_i with the n-f smallest |x_i - x_pivot|

    Condition: n >= 2f + 1
    Cost: O(n d)
    Source: Farhadkhani et al., ICML 2023, "Robust Collaborative Learning with Linear Gradient Overhead" (MoNNA)

    Every worker of the paper takes its own row for the pivot. A parameter server needs a row that it can trust, for
    instance that of a worker of its own: nothing is promised where that row is Byzantine.

    Args:
        pivot: index of the trusted row, 0 to n-1, or from the end, -1 to -n.

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1, or a pivot that is no row.

    Ties: of rows equally far from the pivot the lowest index. Rows with a NaN or infinite entry are infinitely far from
    it. Weights: 1/(n-f) for each row averaged. As the base of Bulyan the pivot is a place in what remains of the rows.

    >>> import numpy as np
    >>> rule = monna(n=4, f=1)
    >>> aggregate, _, info = rule.apply(np.array([[1], [9], [0], [2]], np.float32), rule.init(1))
    >>> aggregate.tolist(), (info.weights > 0).tolist()
    ([1.0], [True, False, True, True])
    """
    require("monna", n, f, factor=2, offset=1)
    whole("monna", "pivot", pivot)
    if not -n <= pivot < n:
        raise ValueError(f"monna needs a pivot among its rows, -{n} to {n - 1}, got pivot={pivot}")

    def aggregate(rows: Array) -> tuple[Array, Info]:
        distances = distances_to(rows, rows[pivot], itself=pivot)
        result, weights = mean_of(rows, smallest(distances, n - f, jnp.ones(n, bool)))
        return result, Info(weights)

    return stateless(n, aggregate)
