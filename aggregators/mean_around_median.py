"""Mean around median (MeaMed; Xie et al. 2018): per coordinate the mean of the values closest to the median."""

from typing import Literal

import jax.numpy as jnp

from byzax.aggregators.base import AggregateAlive, Aggregator, Array, Info, require, stateless
from byzax.aggregators.kernels import columns
from byzax.aggregators.kernels.columns import Median
from byzax.options import checked


@checked
def mean_around_median(n: int, f: int, *, count: Literal["n-f", "n-f-1"] = "n-f", median: Median = "mid") -> Aggregator:
    """The mean of the n-f values of each coordinate that are closest to its median, `[n, d] -> [d]`.

        F(x_1..x_n)[c] = mean of the n-f values of x_1[c], ..., x_n[c] closest to median(x_1[c], ..., x_n[c])

    Condition: n >= 2f + 1
    Cost: O(n log² n d)

    Byzantine values may be among those averaged, but none farther from the median than an honest value that was. NaN
    counts as +inf in its coordinate alone. Ties: of two values equally far from the median the smaller is kept,
    whatever the order of the rows.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        count: Number of values averaged: `n-f`, or `n-f-1`, one value less, what ALIE's code calls trimmed mean (never
            less than one value).
        median: The median of an even number of values: the mean of the two middle ones (`mid`), or the `lower` (torch)
            or `upper` of them.

    Returns:
        The rule. No weights: every coordinate may come from other rows.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For an option that is none of those named.

    Example:
        >>> import numpy as np
        >>> rule = mean_around_median(n=4, f=1)
        >>> aggregate, _, _ = rule.apply(np.array([[0, np.nan], [1, 5], [2, 4], [1e30, 0]], np.float32), rule.init(2))
        >>> aggregate.tolist()
        [1.0, 3.0]

    References:
        Xie et al. 2018, "Generalized Byzantine-tolerant SGD" (MeaMed)
    """
    least_rows = require("mean_around_median", n, f, factor=2, offset=1)
    dropped = min(f if count == "n-f" else f + 1, n - 1)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        return columns.mean_around_median(rows, dropped, median), Info()

    def among(rows: Array) -> AggregateAlive:
        def aggregate_alive(alive: Array) -> Array:
            # rows that are not alive count as +inf; the middle moves down with the number of the others
            size = jnp.sum(alive)
            low, high = (size - 1) // 2, size // 2
            pool = jnp.where(alive[:, None], rows, jnp.inf)

            def reduce(ascending: list[Array] | Array) -> Array:
                ascending = jnp.stack(ascending) if isinstance(ascending, list) else ascending
                centre = columns.median_of_sorted(ascending[jnp.stack([low, high])], median)
                return columns.mean_of_closest(ascending, dropped, centre, size)

            return columns.reduce_sorted_columns(pool, reduce)

        return aggregate_alive

    return stateless(n, aggregate, among, least_rows=least_rows, by_coordinate=True)
