"""The coordinate-wise trimmed mean (Yin et al. 2018)."""

from typing import Annotated

import jax.numpy as jnp
from pydantic import Field

from byzax.aggregators.base import NEVER, AggregateAlive, Aggregator, Array, Info, require, stateless
from byzax.aggregators.kernels import columns
from byzax.aggregators.kernels.columns import mean_of_ranks, reduce_sorted_columns
from byzax.options import OptionError, checked


@checked
def trimmed_mean(n: int, f: int, *, trim: Annotated[int, Field(ge=0)] | None = None) -> Aggregator:
    """The mean of each coordinate without its f smallest and f largest values, `[n, d] -> [d]`.

        F(x_1..x_n)[c] = mean of the n-2f values of x_1[c], ..., x_n[c] that remain

    Condition: n >= 2f + 1
    Cost: O(n log² n d)

    For f = 0 it is the average. NaN counts as +inf in its coordinate alone; what is dropped is never added, so that
    values of any size leave no trace. Variants in circulation: `values[f:-f]`, which is empty for f = 0; f lowered in
    silence until n > 2f (epfml); the mean of the values closest to the median (ALIE's code, see mean_around_median).

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        trim: Number of values dropped at each end, f to (n-1)/2 (which leaves the median). None: f.

    Returns:
        The rule. No weights: every coordinate may come from other rows.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For trim out of its range.

    Example:
        >>> import numpy as np
        >>> rule = trimmed_mean(n=4, f=1)
        >>> aggregate, _, _ = rule.apply(np.array([[0, np.nan], [1, 5], [3, 4], [1e30, 1]], np.float32), rule.init(2))
        >>> aggregate.tolist()
        [2.0, 4.5]

    References:
        Yin et al., ICML 2018, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates"
    """
    required = require("trimmed_mean", n, f, factor=2, offset=1)
    if trim is not None and not f <= trim <= (n - 1) // 2:
        raise OptionError(
            "trim",
            f"must be at least f = {f} and at most (n - 1) / 2 = {(n - 1) // 2}: fewer would leave Byzantine values, "
            f"more none at all, got trim={trim}",
        )
    dropped = f if trim is None else trim

    def least_rows(f: int) -> int:
        if trim is None:
            return required(f)
        return 2 * trim + 1 if f <= trim else NEVER

    def aggregate(rows: Array) -> tuple[Array, Info]:
        return columns.trimmed_mean(rows, dropped, n - dropped), Info()

    def among(rows: Array) -> AggregateAlive:
        def aggregate_alive(alive: Array) -> Array:
            # rows that are not alive count as +inf, beyond the upper end; a pool too small for trim leaves the median
            size = jnp.sum(alive)
            ends = jnp.minimum(dropped, (size - 1) // 2)
            pool = jnp.where(alive[:, None], rows, jnp.inf)
            return reduce_sorted_columns(pool, lambda ascending: mean_of_ranks(ascending, ends, size - ends))

        return aggregate_alive

    return stateless(n, aggregate, among, least_rows=least_rows, by_coordinate=True)
