"""The average: what every robust rule is compared with."""

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import Aggregator, Array, Info, require, stateless
from byzax.aggregators.kernels.means import mean_of


def average(n: int, f: int) -> Aggregator:
    """The arithmetic mean of the rows, `[n, d] -> [d]`.

        F(x_1..x_n) = (x_1 + ... + x_n) / n

    Condition: n >= f
    Cost: O(n d)
    Source: Blanchard et al., NeurIPS 2017, lemma 1 (not robust to a single Byzantine row)

    Nothing is promised against Byzantine rows, whatever f is: one row that is NaN makes the average NaN, and one row
    can make it any vector. Weights: 1/n each.

    Raises:
        ValueError: n < 1, f < 0 or f > n.

    >>> import numpy as np
    >>> rule = average(n=3, f=0)
    >>> aggregate, _, info = rule.apply(np.array([[0, 0], [3, 3], [6, 9]], np.float32), rule.init(2))
    >>> aggregate.tolist()
    [3.0, 4.0]
    """
    require("average", n, f, factor=1, offset=0)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        weights = jnp.full(n, 1 / n, rows.dtype)
        # A product with the weights, not jnp.mean: on CPU XLA takes 40 times as long to sum over the leading axis.
        return jnp.matmul(weights, rows, precision=lax.Precision.HIGHEST), Info(weights)

    def among(rows: Array):
        return lambda alive: mean_of(rows, alive)[0]

    return stateless(n, aggregate, among)
