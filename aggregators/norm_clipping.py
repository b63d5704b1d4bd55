"""Norm clipping: the average of the rows, none of which is longer than a bound."""

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, require, stateless
from byzax.aggregators.kernels.clipping import clipped_mean, lengths, median_length


def norm_clipping(n: int, f: int, *, tau: float | None = None) -> Aggregator:
    """The mean of the rows after those longer than tau are shortened to it, `[n, d] -> [d]`.

        F = (1/n) sum of x_i min(1, tau / |x_i|)

    Condition: n >= 2f + 1
    Cost: O(n d)
    Source: Sun et al. 2019, "Can You Really Backdoor Federated Learning?" (norm thresholding)

    Bounds what a row can do, and no more: f rows of length tau move the aggregate by up to f tau / n, in any direction.

    Args:
        tau: the norm bound, a number > 0. None: the median of the n norms, which follows the size of the rows.

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1 or tau <= 0.

    Rows with a NaN or infinite entry have no direction and count as 0; among the norms they are the largest. The median
    of an even number of norms is the mean of the two middle ones. No weights: the shares of shortened rows do not sum
    to 1.

    >>> import numpy as np
    >>> rule = norm_clipping(n=4, f=1, tau=4.0)
    >>> rule.apply(np.array([[1e30, 0], [0, 4], [0, 2], [np.nan, 0]], np.float32), rule.init(2))[0].tolist()
    [1.0, 1.5]
    """
    require("norm_clipping", n, f, factor=2, offset=1)
    if tau is not None and not tau > 0:
        raise ValueError(f"norm_clipping needs a norm tau > 0, or none for the median of the norms, got tau={tau!r}")

    def aggregate(rows: Array) -> tuple[Array, Info]:
        origin = jnp.zeros_like(rows[0])
        found = lengths(rows, origin)
        bound = median_length(found) if tau is None else jnp.asarray(0.5 * tau, rows.dtype)
        return clipped_mean(rows, origin, found, bound), Info()

    return stateless(n, aggregate)
