"""Phocas (Xie et al. 2018): per coordinate the mean of the values closest to the trimmed mean."""

import jax.numpy as jnp

from byzax.aggregators.base import AggregateAlive, Aggregator, Array, Info, require, stateless
from byzax.aggregators.kernels.columns import mean_of_closest, mean_of_ranks, reduce_sorted_columns
from byzax.options import checked


@checked
def phocas(n: int, f: int) -> Aggregator:
    """The mean of the n-f values of each coordinate that are closest to its f-trimmed mean, `[n, d] -> [d]`.

        F(x_1..x_n)[c] = mean of the n-f values of x_1[c], ..., x_n[c] closest to trimmed_mean_f(x_1[c], ..., x_n[c])

    Condition: n >= 2f + 1
    Cost: O(n log² n d)

    NaN counts as +inf in its coordinate alone. Ties: of two values equally far from the trimmed mean the smaller is
    kept, whatever the order of the rows.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule. No weights: every coordinate may come from other rows.

    Raises:
        PartError: For f < 0, or n < 2f + 1.

    Example:
        >>> import numpy as np
        >>> rule = phocas(n=4, f=1)
        >>> aggregate, _, _ = rule.apply(np.array([[0, np.nan], [1, 5], [2, 4], [1e30, 0]], np.float32), rule.init(2))
        >>> aggregate.tolist()
        [1.0, 3.0]

    References:
        Xie et al. 2018, "Phocas: dimensional Byzantine-resilient stochastic gradient descent"
    """
    least_rows = require("phocas", n, f, factor=2, offset=1)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        def reduce(ascending: list[Array] | Array) -> Array:
            return mean_of_closest(ascending, f, mean_of_ranks(ascending, f, n - f))

        return reduce_sorted_columns(rows, reduce), Info()

    def among(rows: Array) -> AggregateAlive:
        def aggregate_alive(alive: Array) -> Array:
            # rows that are not alive count as +inf, beyond the upper end
            size = jnp.sum(alive)

            def reduce(ascending: list[Array] | Array) -> Array:
                return mean_of_closest(ascending, f, mean_of_ranks(ascending, f, size - f), size)

            return reduce_sorted_columns(jnp.where(alive[:, None], rows, jnp.inf), reduce)

        return aggregate_alive

    return stateless(n, aggregate, among, least_rows=least_rows, by_coordinate=True)
