"""The coordinate-wise (marginal) median."""

from typing import get_args

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, choice, require, stateless
from byzax.aggregators.kernels.columns import Median, middle, sorted_rows


def median(n: int, f: int, *, median: Median = "mid") -> Aggregator:
    """The median of each coordinate by itself, `[n, d] -> [d]`.

        F(x_1..x_n)[c] = median(x_1[c], ..., x_n[c])

    Condition: n >= 2f + 1
    Cost: O(n log² n d)
    Source: Xie et al. 2018 (Generalized Byzantine-tolerant SGD, marginal median); Yin et al., ICML 2018

    NaN counts as +inf in its coordinate alone: with up to f of them the median lies within the other values.
    No weights: every coordinate may come from other rows.

    Args:
        median: which median of an even number of values is meant: the mean of the two middle ones (`mid`; NumPy, and
            epfml and blades, which average torch's two), the `lower` (torch.median: LPD's PyTorch codes, Shejwalkar and
            Houmansadr) or the `upper` of them (AggregaThor's native code).

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1, or a median that is none of those named.

    >>> import numpy as np
    >>> rule = median(n=3, f=1)
    >>> aggregate, _, _ = rule.apply(np.array([[0, np.nan], [1, 5], [1e30, 4]], np.float32), rule.init(2))
    >>> aggregate.tolist()
    [1.0, 5.0]
    """
    require("median", n, f, factor=2, offset=1)
    choice("median", "median", median, get_args(Median))
    ranks = sorted({(n - 1) // 2, n // 2})

    def aggregate(rows: Array) -> tuple[Array, Info]:
        return middle(sorted_rows(rows, ranks), median), Info()

    def among(rows: Array):
        def aggregate_alive(alive: Array) -> Array:
            # Rows that are not alive count as +inf; the middle moves down with the number of the others.
            ascending = jnp.stack(sorted_rows(jnp.where(alive[:, None], rows, jnp.inf), range(n)))
            count = jnp.sum(alive)
            return middle(ascending[jnp.stack([(count - 1) // 2, count // 2])], median)

        return aggregate_alive

    return stateless(n, aggregate, among)
