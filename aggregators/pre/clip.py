"""Static clipping (Sun et al. 2019): rows shortened to a bound."""

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Array, Context, Positive, require
from byzax.aggregators.kernels.clipping import shorten
from byzax.aggregators.kernels.measures import lengths_from
from byzax.aggregators.kernels.sharding import Steps, on_whole
from byzax.aggregators.pre.base import Mixer, ShardedMix
from byzax.options import checked


@checked
def clip(n: int, f: int, *, bound: Positive = 1.0) -> Mixer:
    """No row longer than a bound, `[n, d] -> [n, d]`.

        y_i = x_i min(1, bound / |x_i|)

    Condition: n >= f
    Cost: O(n d)

    A row with a NaN or infinite entry becomes 0.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        bound: Largest length, in the unit of the rows.

    Returns:
        The pre-aggregation. The share of a row is given as if it had not been shortened.

    Raises:
        PartError: For f < 0, n < 1 or n < f.
        OptionError: For bound <= 0.

    Example:
        >>> import numpy as np
        >>> shorter, _ = clip(n=2, f=0, bound=5).mix(np.array([[6, 8], [3, 4]], np.float32), None)
        >>> shorter.tolist()
        [[3.0, 4.0], [3.0, 4.0]]

    References:
        Sun et al. 2019, "Can You Really Backdoor Federated Learning?" (norm thresholding)
    """
    least_rows = require("clip", n, f, factor=1, offset=0)

    def steps(rows: Array, context: Context | None) -> Steps[tuple[Array, Array]]:
        lengths = yield lengths_from(rows, jnp.zeros_like(rows[0]))
        return shorten(rows, lengths, jnp.asarray(0.5 * bound, rows.dtype)), jnp.eye(n, dtype=rows.dtype)

    clipped = jax.jit(lambda rows: on_whole(steps(rows, None)))

    def mix(rows: Array, context: Context | None) -> tuple[Array, Array]:
        return clipped(rows)

    return Mixer(n, mix, least_rows=lambda kept, f: max(kept, least_rows(f)), sharded=ShardedMix(1, steps))
