"""FLTrust (Cao et al. 2021): rows weighted by their cosine to the server's own row."""

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Context, Info, State, check_rows, require
from byzax.aggregators.kernels.clipping import directions, measure_lengths, norms
from byzax.aggregators.kernels.means import sum_of_differences
from byzax.options import checked


@checked
def fltrust(n: int, f: int) -> Aggregator:
    """The mean of the rows, brought to the length of the server's own row and weighted by their cosine to it.

        F = sum of t_i (|g| / |x_i|) x_i / sum of t_i,  t_i = max(0, cos(x_i, g)),  g = the server's row

    Condition: n >= f + 1
    Cost: O(n d), and one gradient on the server's own data

    Any number of Byzantine rows is tolerated as far as the server's data are like those of the workers. Where no row is
    trusted the aggregate is 0, and the model stays. The server makes its row the way workers make theirs, with their
    local steps, momentum and clipping, so that lengths are alike (R_l local iterations in the paper). Rows that are not
    finite are not trusted.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The rule. Weights: t_i over their sum. Its `apply` raises ValueError without a context that has the server's
        gradient.

    Raises:
        PartError: For f < 0, or n < f + 1.

    Example:
        >>> import numpy as np
        >>> rule, own = fltrust(n=2, f=1), np.array([1, 0], np.float32)
        >>> rows = np.array([[3, 4], [-9, 0]], np.float32)
        >>> aggregate, _, info = rule.apply(rows, rule.init(2), Context(jax.random.key(0), gradient=lambda: own))
        >>> [round(float(x), 4) for x in aggregate], info.weights.tolist()
        ([0.6, 0.8], [1.0, 0.0])

    References:
        Cao et al., NDSS 2021, "FLTrust", algorithm 2
    """
    least_rows = require("fltrust", n, f, factor=1, offset=1)

    @jax.jit
    def trusted(rows: Array, own: Array) -> tuple[Array, Array]:
        wide = jnp.promote_types(rows.dtype, jnp.float32)
        kept, own = rows.astype(wide), own.astype(wide)
        origin = jnp.zeros_like(own)
        units = directions(kept, measure_lengths(kept, origin))
        own_unit = directions(own[None], measure_lengths(own[None], origin))[0]
        cosine = jnp.matmul(units, own_unit, precision=jax.lax.Precision.HIGHEST)
        # a cosine that is 0 but for rounding is no trust: alone it would have all the weight
        trust = jnp.where(cosine > 16 * jnp.finfo(wide).eps, cosine, 0)
        weights = trust / jnp.where(trust.sum() > 0, trust.sum(), 1)
        return (norms(own[None])[0] * sum_of_differences(units, weights, origin)).astype(rows.dtype), weights

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        if context is None or context.gradient is None:
            raise ValueError(
                "fltrust needs data of the server's own: in a scenario data.validation above 0, from Python "
                "apply(rows, state, Context(key, gradient=lambda: own_row))"
            )
        result, weights = trusted(rows, context.gradient())
        return result, state, Info(weights)

    return Aggregator(lambda d: (), apply, least_rows=least_rows, needs=frozenset({"gradient"}))
