"""Comparative gradient elimination (CGE; Gupta et al. 2020): the mean of the shortest rows."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp

from byzax.aggregators.base import AggregateAlive, Aggregator, Array, Info, in_exchanges, require
from byzax.aggregators.kernels.choosing import mask_smallest
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.kernels.measures import nearness_to
from byzax.aggregators.kernels.sharding import Steps, on_whole
from byzax.options import checked


@checked
def cge(n: int, f: int, *, output: Literal["mean", "sum"] = "mean") -> Aggregator:
    """The mean of the n-f rows with the smallest Euclidean norms, `[n, d] -> [d]`.

        F = mean of the x_i with the n-f smallest |x_i|

    Condition: n >= 2f + 1
    Cost: O(n d)

    Nothing is promised against rows that are short: f rows of the honest rows' norms may point anywhere. Rows with a
    NaN or infinite entry are infinitely long. Ties: the lowest index.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        output: `mean`, or `sum`, which is n-f times as much, as in the authors' first definition; the step size must
            fit.

    Returns:
        The rule. Weights: 1/(n-f) for each row taken.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For an output that is none of those named.

    Example:
        >>> import numpy as np
        >>> rule = cge(n=3, f=1)
        >>> aggregate, _, info = rule.apply(np.array([[3, 4], [np.inf, 0], [1, 0]], np.float32), rule.init(2))
        >>> aggregate.tolist(), info.weights.tolist()
        ([2.0, 2.0], [0.5, 0.0, 0.5])

    References:
        Gupta, Liu and Vaidya, 2020 and 2021 (comparative gradient elimination)
    """
    least_rows = require("cge", n, f, factor=2, offset=1)

    def build_selection(rows: Array) -> Steps[Callable[[Array], tuple[Array, Array]]]:
        norms = yield nearness_to(rows, jnp.zeros_like(rows[0]))

        def shortest(alive: Array) -> tuple[Array, Array]:
            count = jnp.sum(alive) - f
            result, weights = mean_of(rows, mask_smallest(norms, count, alive))
            return result if output == "mean" else count * result, weights

        return shortest

    def steps(rows: Array) -> Steps[tuple[Array, Info]]:
        shortest = yield from build_selection(rows)
        result, weights = shortest(jnp.ones(n, bool))
        return result, Info(weights)

    def among(rows: Array) -> AggregateAlive:
        shortest = on_whole(build_selection(rows))
        return lambda alive: shortest(alive)[0]

    return in_exchanges(n, steps, 1, among, linear=output == "mean", least_rows=least_rows)
