"""Aksel: the average of the rows closest to the coordinate-wise median."""

from typing import Literal, get_args

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import Aggregator, Array, Info, choice, require, stateless
from byzax.aggregators.kernels.columns import Median, middle, sorted_rows
from byzax.aggregators.kernels.distances import distances_to, smallest
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.median import median as marginal_median

Count = Literal["n-f", "mid"]


def aksel(n: int, f: int, *, count: Count = "mid", median: Median = "mid") -> Aggregator:
    """The mean of the half of the rows closest to the median of the coordinates, `[n, d] -> [d]`.

        F = mean of the x_i with |x_i - M|² <= median of |x_1 - M|², ..., |x_n - M|²:  the ceil(n/2) smallest
        M = median(x_1..x_n), coordinate by coordinate

    Condition: n >= 2f + 1
    Cost: O(n log² n d)
    Source: Boussetta et al., OPODIS 2020, "AKSEL: Fast Byzantine SGD"

    f is in the condition only, unless `count` says otherwise. The paper itself could not be looked up: this is what
    LPD's code, by some of its authors, takes by default, and what other codes in circulation call Aksel.

    Args:
        count: `n-f` averages the n-f closest rows (LPD's other mode): with f = 0 the average.
        median: which median of an even number of values M has: the mean of the two middle ones (`mid`), or the `lower`
            (LPD's code, by torch.median) or `upper` of them.

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1, or an option that is none of those named.

    Ties: of rows equally far from the median the lowest index. Rows with a NaN or infinite entry are infinitely far
    from it; in the median NaN counts as +inf. Weights: the same for each row averaged.

    >>> import numpy as np
    >>> rule = aksel(n=5, f=1)
    >>> aggregate, _, info = rule.apply(np.array([[0], [1], [2], [9], [np.nan]], np.float32), rule.init(1))
    >>> aggregate.tolist(), (info.weights > 0).tolist()
    ([1.0], [True, True, True, False, False])
    """
    require("aksel", n, f, factor=2, offset=1)
    choice("aksel", "count", count, get_args(Count))
    choice("aksel", "median", median, get_args(Median))

    def closest(rows: Array, centre: Array, alive: Array) -> tuple[Array, Array]:
        # else XLA fuses the median into its uses and computes it for each row
        distances = distances_to(rows, lax.optimization_barrier(centre))
        size = jnp.sum(alive)
        return mean_of(rows, smallest(distances, size - f if count == "n-f" else (size + 1) // 2, alive))

    def aggregate(rows: Array) -> tuple[Array, Info]:
        centre = middle(sorted_rows(rows, sorted({(n - 1) // 2, n // 2})), median)
        result, weights = closest(rows, centre, jnp.ones(n, bool))
        return result, Info(weights)

    def among(rows: Array):
        centre = marginal_median(n, f, median=median).among
        assert centre is not None
        centre_of = centre(rows)
        return lambda alive: closest(rows, centre_of(alive), alive)[0]

    return stateless(n, aggregate, among)
