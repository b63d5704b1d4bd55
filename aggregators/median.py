"""The coordinate-wise (marginal) median (Xie et al. 2018, Yin et al. 2018)."""

import jax.numpy as jnp

from byzax.aggregators.base import AggregateAlive, Aggregator, Array, Info, require, stateless
from byzax.aggregators.kernels.columns import Median, median_of_sorted, order_statistics
from byzax.options import checked


@checked
def median(n: int, f: int, *, median: Median = "mid") -> Aggregator:
    """The median of each coordinate by itself, `[n, d] -> [d]`.

        F(x_1..x_n)[c] = median(x_1[c], ..., x_n[c])

    Condition: n >= 2f + 1
    Cost: O(n log² n d)

    NaN counts as +inf in its coordinate alone: with up to f of them the median lies within the other values.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        median: The median of an even number of values: the mean of the two middle ones (`mid`; NumPy, and epfml and
            blades, which average torch's two), the `lower` (torch.median: LPD's PyTorch codes, Shejwalkar and
            Houmansadr) or the `upper` of them (AggregaThor's native code).

    Returns:
        The rule. No weights: every coordinate may come from other rows.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For a median that is none of those named.

    Example:
        >>> import numpy as np
        >>> rule = median(n=3, f=1)
        >>> aggregate, _, _ = rule.apply(np.array([[0, np.nan], [1, 5], [1e30, 4]], np.float32), rule.init(2))
        >>> aggregate.tolist()
        [1.0, 5.0]

    References:
        Xie et al. 2018 (Generalized Byzantine-tolerant SGD, marginal median); Yin et al., ICML 2018
    """
    least_rows = require("median", n, f, factor=2, offset=1)
    ranks = sorted({(n - 1) // 2, n // 2})

    def aggregate(rows: Array) -> tuple[Array, Info]:
        return median_of_sorted(order_statistics(rows, ranks), median), Info()

    def among(rows: Array) -> AggregateAlive:
        def aggregate_alive(alive: Array) -> Array:
            # rows that are not alive count as +inf; the middle moves down with the number of the others
            ascending = jnp.stack(order_statistics(jnp.where(alive[:, None], rows, jnp.inf), range(n)))
            count = jnp.sum(alive)
            return median_of_sorted(ascending[jnp.stack([(count - 1) // 2, count // 2])], median)

        return aggregate_alive

    return stateless(n, aggregate, among, least_rows=least_rows, by_coordinate=True)
