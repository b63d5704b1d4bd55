"""Norm clipping (Sun et al. 2019): the mean of the rows, none of which is longer than a bound."""

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, Positive, in_exchanges, require
from byzax.aggregators.kernels.clipping import clipped_mean, half_median_norm
from byzax.aggregators.kernels.measures import lengths_from
from byzax.aggregators.kernels.sharding import Steps
from byzax.options import checked


@checked
def norm_clipping(n: int, f: int, *, tau: Positive | None = None) -> Aggregator:
    """The mean of the rows after those longer than tau are shortened to it, `[n, d] -> [d]`.

        F = (1/n) sum of x_i min(1, tau / |x_i|)

    Condition: n >= 2f + 1
    Cost: O(n d)

    Bounds what a row can do, and no more: f rows of length tau move the aggregate by up to f tau / n, in any direction.

    Rows with a NaN or infinite entry have no direction and count as 0; among the norms they are the largest. The median
    of an even number of norms is the mean of the two middle ones.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        tau: Largest norm, in the unit of the rows. None: the median of the n norms, which follows the size of the rows.

    Returns:
        The rule. No weights: the shares of shortened rows do not sum to 1.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For tau <= 0.

    Example:
        >>> import numpy as np
        >>> rule = norm_clipping(n=4, f=1, tau=4.0)
        >>> rule.apply(np.array([[1e30, 0], [0, 4], [0, 2], [np.nan, 0]], np.float32), rule.init(2))[0].tolist()
        [1.0, 1.5]

    References:
        Sun et al. 2019, "Can You Really Backdoor Federated Learning?" (norm thresholding)
    """
    least_rows = require("norm_clipping", n, f, factor=2, offset=1)

    def steps(rows: Array) -> Steps[tuple[Array, Info]]:
        origin = jnp.zeros_like(rows[0])
        lengths = yield lengths_from(rows, origin)
        bound = half_median_norm(lengths) if tau is None else jnp.asarray(0.5 * tau, rows.dtype)
        return clipped_mean(rows, origin, lengths, bound), Info()

    return in_exchanges(n, steps, 1, least_rows=least_rows)
