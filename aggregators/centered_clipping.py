"""Centered clipping: the last aggregate, moved by the average of the clipped differences to it."""

import math
from typing import Literal, get_args

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import Aggregator, Array, Info, choice, require, stateful, whole
from byzax.aggregators.kernels.clipping import clipped_mean, lengths, median_length
from byzax.aggregators.kernels.columns import middle, sorted_rows
from byzax.aggregators.kernels.means import mean_of

Start = Literal["zero", "median", "mean"]

MOST_ITERATIONS = 1000  # one compiled loop, which no signal ends


def centered_clipping(
    n: int,
    f: int,
    *,
    tau: float | None = None,
    iterations: int = 1,
    start: Start | tuple[float, ...] = "zero",
    memory: bool = True,
) -> Aggregator:
    """The last aggregate v, moved by the mean of the clipped differences to the rows, `[n, d] -> [d]`.

        v <- v + (1/n) sum of (x_i - v) min(1, tau / |x_i - v|),  `iterations` times;  F = v

    Condition: n >= 2f + 1
    Cost: O(n d) for each iteration
    Source: Karimireddy, He and Jaggi, ICML 2021, "Learning from History for Byzantine Robust Optimization"

    The state is the last aggregate, zero before the first update. One update moves it by `iterations` tau at most.
    From the mean of the rows one far row is left behind slowly, however small tau is.

    Args:
        tau: the radius of the clipping, a number > 0 that fits the size of the rows: the paper's code takes 100,
            Karimireddy et al. 2022 take 10, divided by 1 - beta where workers send momentum that is not averaged. None:
            the median of the n distances to v, anew in each iteration.
        iterations: 1 (paper), 3 (Karimireddy et al. 2022) or 5 (blades) are usual; 20 and more where v is not kept.
        start: v before the first update: `zero` (paper), the coordinate-wise `median` or the `mean` of its rows, or d
            numbers (byzfl's m).
        memory: whether v is kept from one update to the next; else every update begins at `start`, which some codes do
            with 20 iterations from the median.

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1, tau <= 0, iterations outside 1..1000, or a start that is none of those
            named, not finite, or not of d numbers.

    Rows with a NaN or infinite entry have no direction and pull nowhere; among the distances they are the largest. A
    row that is v pulls nowhere. No weights: the shares of rows do not sum to 1.

    >>> import numpy as np
    >>> rule = centered_clipping(n=3, f=1, tau=3.0)
    >>> first, state, _ = rule.apply(np.array([[30], [3], [np.nan]], np.float32), rule.init(1))
    >>> first.tolist(), rule.apply(np.array([[2], [2], [-1e30]], np.float32), state)[0].tolist()
    ([2.0], [1.0])
    """
    require("centered_clipping", n, f, factor=2, offset=1)
    if tau is not None and not tau > 0:
        raise ValueError(f"centered_clipping needs a radius tau > 0, or none for the median distance, got tau={tau!r}")
    whole("centered_clipping", "iterations", iterations, 1, MOST_ITERATIONS)
    if isinstance(start, str):
        choice("centered_clipping", "start", start, get_args(Start))
    elif not all(map(math.isfinite, start)):
        raise ValueError(f"centered_clipping needs a start of finite numbers, got {str(start)[:60]}")

    def init(d: int) -> Array:
        if isinstance(start, str):
            # no aggregate is NaN: it says that there was no update
            return jnp.zeros(d) if start == "zero" else jnp.full(d, jnp.nan)
        if len(start) != d:
            raise ValueError(f"centered_clipping needs a start of d={d} numbers, got {len(start)}")
        return jnp.asarray(start, float)

    def beginning(rows: Array) -> Array:
        if start == "median":
            found = middle(sorted_rows(rows, sorted({(n - 1) // 2, n // 2})), "mid")
        else:
            found = mean_of(rows, jnp.all(jnp.isfinite(rows), axis=1))[0]
        return jnp.where(jnp.isfinite(found), found, 0)

    def aggregate(rows: Array, last: Array) -> tuple[Array, Array, Info]:
        def move(_: int, centre: Array) -> Array:
            found = lengths(rows, centre)
            bound = median_length(found) if tau is None else jnp.asarray(0.5 * tau, rows.dtype)
            return clipped_mean(rows, centre, found, bound)

        first = last.astype(rows.dtype)
        if start in ("median", "mean"):
            first = lax.cond(jnp.isnan(first).any(), lambda: beginning(rows), lambda: first)
        centre = lax.fori_loop(0, iterations, move, first)
        return centre, centre if memory else last, Info()

    return stateful(n, init, aggregate)
