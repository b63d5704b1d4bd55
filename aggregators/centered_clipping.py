"""Centered clipping (Karimireddy et al. 2021): the last aggregate, moved by the mean of clipped differences."""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import Aggregator, Array, Finite, Info, Iterations, Positive, require, stateful
from byzax.aggregators.kernels.clipping import Lengths, clipped_mean, half_median_norm, measure_lengths
from byzax.aggregators.kernels.columns import median_of_sorted, order_statistics
from byzax.aggregators.kernels.distances import largest_entries
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.kernels.measures import lengths_from
from byzax.aggregators.kernels.sharding import ShardedForm, Slice, Steps, largest_of
from byzax.options import OptionError, checked


@checked
def centered_clipping(
    n: int,
    f: int,
    *,
    tau: Positive | None = None,
    iterations: Iterations = 1,
    start: Literal["zero", "median", "mean"] | tuple[Finite, ...] = "zero",
    memory: bool = True,
) -> Aggregator:
    """The last aggregate v, moved by the mean of the clipped differences to the rows, `[n, d] -> [d]`.

        v <- v + (1/n) sum of (x_i - v) min(1, tau / |x_i - v|),  `iterations` times;  F = v

    Condition: n >= 2f + 1
    Cost: O(n d) for each iteration

    The state is the last aggregate, zero before the first update. One update moves it by `iterations` tau at most. From
    the mean of the rows one far row is left behind slowly, however small tau is.

    Rows with a NaN or infinite entry have no direction and pull nowhere; among the distances they are the largest. A
    row that is v pulls nowhere.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        tau: Radius of the clipping, in the unit of the rows: the paper's code takes 100, Karimireddy et al. 2022 take
            10, divided by 1 - beta where workers send momentum that is not averaged. None: the median of the n
            distances to v, anew in each iteration.
        iterations: Of one update: 1 (paper), 3 (Karimireddy et al. 2022) or 5 (blades) are usual; 20 and more where v
            is not kept.
        start: The vector v before the first update: `zero` (paper), the coordinate-wise `median` or the `mean` of its
            rows, or d finite numbers (byzfl's m).
        memory: Whether v is kept from one update to the next; else every update begins at `start`, which some codes do
            with 20 iterations from the median.

    Returns:
        The rule. No weights: the shares of rows do not sum to 1. Its `init` raises OptionError for a start that is not
        of d numbers.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For tau <= 0, iterations outside 1..1000, or a start that is none of those named or not finite.

    Example:
        >>> import numpy as np
        >>> rule = centered_clipping(n=3, f=1, tau=3.0)
        >>> first, state, _ = rule.apply(np.array([[30], [3], [np.nan]], np.float32), rule.init(1))
        >>> first.tolist(), rule.apply(np.array([[2], [2], [-1e30]], np.float32), state)[0].tolist()
        ([2.0], [1.0])

    References:
        Karimireddy, He and Jaggi, ICML 2021, "Learning from History for Byzantine Robust Optimization"
    """
    least_rows = require("centered_clipping", n, f, factor=2, offset=1)

    def init(d: int) -> Array:
        if isinstance(start, str):
            # no aggregate is NaN: it says that there was no update
            return jnp.zeros(d) if start == "zero" else jnp.full(d, jnp.nan)
        if len(start) != d:
            raise OptionError("start", f"must have d={d} numbers, got {len(start)}", "centered_clipping")
        return jnp.asarray(start, float)

    def beginning(rows: Array, finite: Callable[[], Array]) -> Array:
        if start == "median":
            first = median_of_sorted(order_statistics(rows, sorted({(n - 1) // 2, n // 2})), "mid")
        else:
            first = mean_of(rows, finite())[0]
        return jnp.where(jnp.isfinite(first), first, 0)

    def first_centre(rows: Array, last: Array, finite: Callable[[], Array]) -> Array:
        first = last.astype(rows.dtype)
        if start not in ("median", "mean"):
            return first
        return lax.cond(jnp.isnan(first).any(), lambda: beginning(rows, finite), lambda: first)

    def move(rows: Array, centre: Array, lengths: Lengths) -> Array:
        bound = half_median_norm(lengths) if tau is None else jnp.asarray(0.5 * tau, rows.dtype)
        return clipped_mean(rows, centre, lengths, bound)

    def aggregate(rows: Array, last: Array) -> tuple[Array, Array, Info]:
        first = first_centre(rows, last, lambda: jnp.all(jnp.isfinite(rows), axis=1))
        centre = lax.fori_loop(
            0, iterations, lambda _, centre: move(rows, centre, measure_lengths(rows, centre)), first
        )
        return centre, centre if memory else last, Info()

    def of_slice(rows: Array, last: Array, *others: Any) -> Steps[tuple[Array, Array, Info]]:
        finite = jnp.ones(n, bool)
        if start == "mean":
            finite = jnp.isfinite((yield largest_of(largest_entries(rows))))
        centre = first_centre(rows, last, lambda: finite)
        for _ in range(iterations):
            lengths = yield lengths_from(rows, centre)
            centre = move(rows, centre, lengths)
        return centre, centre if memory else last, Info()

    def init_slice(where: Slice, width: int) -> Array:
        if isinstance(start, str):
            return init(width)
        columns = int(where.first) + jnp.arange(width)
        return jnp.where(jnp.arange(width) < where.size, init(where.d)[jnp.minimum(columns, where.d - 1)], 0)

    rule = stateful(n, init, aggregate, least_rows=least_rows)
    return rule._replace(sharded=ShardedForm(iterations + (start == "mean"), init_slice, of_slice))
