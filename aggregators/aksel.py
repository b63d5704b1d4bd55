"""Aksel (Boussetta et al. 2020): the mean of the rows closest to the coordinate-wise median."""

from typing import Literal

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import AggregateAlive, Aggregator, Array, Info, in_exchanges, require
from byzax.aggregators.kernels.choosing import mask_smallest
from byzax.aggregators.kernels.columns import Median, median_of_sorted, order_statistics
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.kernels.measures import nearness_to
from byzax.aggregators.kernels.sharding import Steps, on_whole
from byzax.aggregators.median import median as marginal_median
from byzax.options import checked


@checked
def aksel(n: int, f: int, *, count: Literal["n-f", "mid"] = "mid", median: Median = "mid") -> Aggregator:
    """The mean of the half of the rows closest to the median of the coordinates, `[n, d] -> [d]`.

        F = mean of the x_i with |x_i - M|² <= median of |x_1 - M|², ..., |x_n - M|²:  the ceil(n/2) smallest
        M = median(x_1..x_n), coordinate by coordinate

    Condition: n >= 2f + 1
    Cost: O(n log² n d)

    The number f is in the condition only, unless `count` says otherwise. The paper itself could not be looked up: this
    is what LPD's code, by some of its authors, does by default, and what other codes in circulation call Aksel.

    Rows with a NaN or infinite entry are infinitely far from the median; in the median NaN counts as +inf. Ties: of
    rows equally far from the median the lowest index.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        count: Number of rows averaged: `mid` takes the closest half, `n-f` the n-f closest rows (LPD's other mode),
            which with f = 0 is the average.
        median: The median of an even number of values in M: the mean of the two middle ones (`mid`), or the `lower`
            (LPD's code, by torch.median) or `upper` of them.

    Returns:
        The rule. Weights: the same for each row averaged.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For an option that is none of those named.

    Example:
        >>> import numpy as np
        >>> rule = aksel(n=5, f=1)
        >>> aggregate, _, info = rule.apply(np.array([[0], [1], [2], [9], [np.nan]], np.float32), rule.init(1))
        >>> aggregate.tolist(), (info.weights > 0).tolist()
        ([1.0], [True, True, True, False, False])

    References:
        Boussetta et al., OPODIS 2020, "AKSEL: Fast Byzantine SGD"
    """
    least_rows = require("aksel", n, f, factor=2, offset=1)

    def closest(rows: Array, centre: Array, alive: Array) -> Steps[tuple[Array, Array]]:
        # else XLA fuses the median into its uses and computes it for each row
        distances = yield nearness_to(rows, lax.optimization_barrier(centre))
        size = jnp.sum(alive)
        return mean_of(rows, mask_smallest(distances, size - f if count == "n-f" else (size + 1) // 2, alive))

    def steps(rows: Array) -> Steps[tuple[Array, Info]]:
        centre = median_of_sorted(order_statistics(rows, sorted({(n - 1) // 2, n // 2})), median)
        result, weights = yield from closest(rows, centre, jnp.ones(n, bool))
        return result, Info(weights)

    def among(rows: Array) -> AggregateAlive:
        centre = marginal_median(n, f, median=median).among
        assert centre is not None
        centre_of = centre(rows)
        return lambda alive: on_whole(closest(rows, centre_of(alive), alive))[0]

    return in_exchanges(n, steps, 1, among, linear=True, least_rows=least_rows)
