"""Adaptive robust clipping (ARC; Allouah et al. 2025): the longest rows shortened to the length of the next."""

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Array, Context, require
from byzax.aggregators.kernels.clipping import half_norms, shorten
from byzax.aggregators.kernels.measures import lengths_from
from byzax.aggregators.kernels.sharding import Steps, on_whole
from byzax.aggregators.pre.base import Mixer, ShardedMix
from byzax.options import checked


@checked
def arc(n: int, f: int) -> Mixer:
    """The longest rows are shortened to the length of the next longest, `[n, d] -> [n, d]`.

        y_i = x_i min(1, C / |x_i|),  C = the (k+1)-th largest length,  k = floor(2 (f/n) (n-f))

    Condition: n >= 2f + 1
    Cost: O(n d)

    A row with a NaN or infinite entry is one of the longest, and becomes 0.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The pre-aggregation. The share of a row is given as if it had not been shortened.

    Raises:
        PartError: For f < 0, or n < 2f + 1.

    Example:
        >>> import numpy as np
        >>> shorter, _ = arc(n=3, f=1).mix(np.array([[9], [2], [-3]], np.float32), None)
        >>> shorter.ravel().tolist()
        [3.0, 2.0, -3.0]

    References:
        Allouah et al., ICLR 2025, "Adaptive Gradient Clipping for Robust Federated Learning", algorithm 2
    """
    least_rows = require("arc", n, f, factor=2, offset=1)
    clipped = 2 * f * (n - f) // n

    def steps(rows: Array, context: Context | None) -> Steps[tuple[Array, Array]]:
        lengths = yield lengths_from(rows, jnp.zeros_like(rows[0]))
        return shorten(rows, lengths, jnp.sort(half_norms(lengths))[n - clipped - 1]), jnp.eye(n, dtype=rows.dtype)

    shorter = jax.jit(lambda rows: on_whole(steps(rows, None)))

    def mix(rows: Array, context: Context | None) -> tuple[Array, Array]:
        return shorter(rows)

    return Mixer(n, mix, least_rows=lambda kept, f: max(kept, least_rows(f)), sharded=ShardedMix(1, steps))
