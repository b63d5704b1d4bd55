"""Comparative gradient elimination (CGE): the average of the shortest rows."""

from typing import Literal, get_args

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, choice, require, stateless
from byzax.aggregators.kernels.distances import distances_to, smallest
from byzax.aggregators.kernels.means import mean_of

Output = Literal["mean", "sum"]


def cge(n: int, f: int, *, output: Output = "mean") -> Aggregator:
    """The mean of the n-f rows with the smallest Euclidean norms, `[n, d] -> [d]`.

        F = mean of the x_i with the n-f smallest |x_i|

    Condition: n >= 2f + 1
    Cost: O(n d)
    Source: Gupta, Liu and Vaidya, 2020 and 2021 (comparative gradient elimination)

    Args:
        output: `sum` gives n-f times as much, as the authors' first definition has it; the step size must fit.

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1, or an output that is none of those named.

    Nothing is promised against rows that are short: f rows of the honest rows' norms may point anywhere. Ties: the
    lowest index. Rows with a NaN or infinite entry are infinitely long. Weights: 1/(n-f) for each row taken.

    >>> import numpy as np
    >>> rule = cge(n=3, f=1)
    >>> aggregate, _, info = rule.apply(np.array([[3, 4], [np.inf, 0], [1, 0]], np.float32), rule.init(2))
    >>> aggregate.tolist(), info.weights.tolist()
    ([2.0, 2.0], [0.5, 0.0, 0.5])
    """
    require("cge", n, f, factor=2, offset=1)
    choice("cge", "output", output, get_args(Output))

    def selection(rows: Array):
        norms = distances_to(rows, jnp.zeros_like(rows[0]))

        def shortest(alive: Array) -> tuple[Array, Array]:
            count = jnp.sum(alive) - f
            result, weights = mean_of(rows, smallest(norms, count, alive))
            return result if output == "mean" else count * result, weights

        return shortest

    def aggregate(rows: Array) -> tuple[Array, Info]:
        result, weights = selection(rows)(jnp.ones(n, bool))
        return result, Info(weights)

    def among(rows: Array):
        shortest = selection(rows)
        return lambda alive: shortest(alive)[0]

    return stateless(n, aggregate, among)
