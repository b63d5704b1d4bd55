"""Multi-Krum: the average of the rows that Krum likes best."""

import jax.numpy as jnp

from aggregators.average import average
from aggregators.base import Aggregator, Array, Info, eligible, require, stateless, whole
from aggregators.kernels.distances import pairwise, sums_of_nearest
from aggregators.kernels.means import mean_of


def multi_krum(n: int, f: int, *, m: int | None = None) -> Aggregator:
    """The mean of the m rows with the smallest Krum scores of one pass, `[n, d] -> [d]`.

        s(i) = sum of |x_i - x_j|² over the n-f-2 other rows j closest to x_i;  F = mean of the m rows with smallest s

    Condition: n >= 2f + 3
    Cost: O(n² d)
    Source: Blanchard et al., NeurIPS 2017 (Multi-Krum); Damaskinos et al. 2019 (AggregaThor), range of m

    Args:
        m: rows averaged, 1 (Krum) to n-f-2, or n, which is the average of all rows and promises nothing against
            Byzantine ones. None: n-f-2, the largest m that is proven.

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 3, or m out of its range.

    Ties: the lowest index wins. Rows with a NaN or infinite entry come after all finite ones. Other variants in
    circulation: m = n-f (byzfl); the sum of the m rows (epfml, right for m = 1 only); Krum repeated on a shrinking pool
    (Shejwalkar and Houmansadr). Weights: 1/m for the m rows.

    >>> import numpy as np
    >>> rule = multi_krum(n=5, f=0, m=2)
    >>> aggregate, _, info = rule.apply(np.array([[0], [1], [2], [4], [9]], np.float32), rule.init(1))
    >>> aggregate.tolist(), info.weights.tolist()
    ([1.5], [0.0, 0.5, 0.5, 0.0, 0.0])
    """
    require("multi_krum", n, f, factor=2, offset=3)
    if m is not None:
        whole("multi_krum", "m", m)
        if m == n:
            return average(n, f)
        if not 1 <= m <= n - f - 2:
            raise ValueError(
                f"multi_krum needs 1 <= m <= n - f - 2 = {n - f - 2}: with more rows averaged a Byzantine one may be "
                f"among them (m = n = {n} is the plain average), got m={m}"
            )

    def selection(rows: Array):
        squared, finite, _ = pairwise(rows)
        sums = sums_of_nearest(squared)

        def select(alive: Array) -> Array:
            # In a pool smaller than n, as Bulyan makes them, m and the neighbours shrink with it, down to one.
            neighbours = jnp.maximum(jnp.sum(alive) - f - 2, 1)
            averaged = neighbours if m is None else jnp.minimum(m, neighbours)
            best_first = jnp.lexsort((sums(alive, neighbours), ~eligible(alive, finite)))
            return jnp.zeros(n, bool).at[best_first].set(jnp.arange(n) < averaged)

        return select

    def aggregate(rows: Array) -> tuple[Array, Info]:
        result, weights = mean_of(rows, selection(rows)(jnp.ones(n, bool)))
        return result, Info(weights)

    def among(rows: Array):
        select = selection(rows)
        return lambda alive: mean_of(rows, select(alive))[0]

    return stateless(n, aggregate, among)
