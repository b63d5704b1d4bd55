"""The coordinate-wise trimmed mean."""

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, require, stateless, whole
from byzax.aggregators.kernels.columns import mean_between, over_columns


def trimmed_mean(n: int, f: int, *, trim: int | None = None) -> Aggregator:
    """The mean of each coordinate without its f smallest and f largest values, `[n, d] -> [d]`.

        F(x_1..x_n)[c] = mean of the n-2f values of x_1[c], ..., x_n[c] that remain

    Condition: n >= 2f + 1
    Cost: O(n log² n d)
    Source: Yin et al., ICML 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates"

    Args:
        trim: values dropped at each end, f to (n-1)/2 (which leaves the median). None: f.

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1, or trim out of its range.

    For f = 0 it is the average. NaN counts as +inf in its coordinate alone; what is dropped is never added, so that
    values of any size leave no trace. Variants in circulation: `values[f:-f]`, which is empty for f = 0; f lowered in
    silence until n > 2f (epfml); the mean of the values closest to the median (ALIE's code, see mean_around_median).
    No weights: every coordinate may come from other rows.

    >>> import numpy as np
    >>> rule = trimmed_mean(n=4, f=1)
    >>> aggregate, _, _ = rule.apply(np.array([[0, np.nan], [1, 5], [3, 4], [1e30, 1]], np.float32), rule.init(2))
    >>> aggregate.tolist()
    [2.0, 4.5]
    """
    require("trimmed_mean", n, f, factor=2, offset=1)
    if trim is not None:
        whole("trimmed_mean", "trim", trim)
        if not f <= trim <= (n - 1) // 2:
            raise ValueError(
                f"trimmed_mean needs f = {f} <= trim <= (n - 1) / 2 = {(n - 1) // 2}: fewer would leave Byzantine "
                f"values, more none at all, got trim={trim}"
            )
    dropped = f if trim is None else trim

    def aggregate(rows: Array) -> tuple[Array, Info]:
        return over_columns(rows, lambda ascending: mean_between(ascending, dropped, n - dropped)), Info()

    def among(rows: Array):
        def aggregate_alive(alive: Array) -> Array:
            # Rows that are not alive count as +inf, beyond the upper end. A pool too small for trim leaves the median.
            size = jnp.sum(alive)
            ends = jnp.minimum(dropped, (size - 1) // 2)
            pool = jnp.where(alive[:, None], rows, jnp.inf)
            return over_columns(pool, lambda ascending: mean_between(ascending, ends, size - ends))

        return aggregate_alive

    return stateless(n, aggregate, among)
