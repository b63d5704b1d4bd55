"""The average, with which every robust rule is compared."""

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import AggregateAlive, Aggregator, Array, Info, require, stateless
from byzax.aggregators.kernels.means import mean_of
from byzax.options import checked


@checked
def average(n: int, f: int) -> Aggregator:
    """The arithmetic mean of the rows, `[n, d] -> [d]`.

        F(x_1..x_n) = (x_1 + ... + x_n) / n

    Condition: n >= f
    Cost: O(n d)

    Nothing is promised against Byzantine rows, whatever f is: one row that is NaN makes the average NaN, and one row
    can make it any vector.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule. Weights: 1/n each.

    Raises:
        PartError: For f < 0, n < 1 or n < f.

    Example:
        >>> import numpy as np
        >>> rule = average(n=3, f=0)
        >>> aggregate, _, info = rule.apply(np.array([[0, 0], [3, 3], [6, 9]], np.float32), rule.init(2))
        >>> aggregate.tolist()
        [3.0, 4.0]

    References:
        Blanchard et al., NeurIPS 2017, lemma 1 (not robust to a single Byzantine row)
    """
    least_rows = require("average", n, f, factor=1, offset=0)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        weights = jnp.full(n, 1 / n, rows.dtype)
        # a product with the weights, not jnp.mean: on CPU XLA takes 40 times as long to sum over the leading axis
        return jnp.matmul(weights, rows, precision=lax.Precision.HIGHEST), Info(weights)

    def among(rows: Array) -> AggregateAlive:
        return lambda alive: mean_of(rows, alive)[0]

    return stateless(n, aggregate, among, linear=True, least_rows=least_rows, by_coordinate=True)
