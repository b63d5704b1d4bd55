"""Static clipping."""

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Array, Context, require
from byzax.aggregators.kernels.clipping import lengths, shortened
from byzax.aggregators.pre.base import Mixer


def clip(n: int, f: int, *, bound: float = 1.0) -> Mixer:
    """No row longer than a bound, `[n, d] -> [n, d]`.

        y_i = x_i min(1, bound / |x_i|)

    Condition: n >= f
    Cost: O(n d)
    Source: Sun et al. 2019, "Can You Really Backdoor Federated Learning?" (norm thresholding)

    A row with a NaN or infinite entry becomes 0. The share of a row is said as if it had not been shortened.

    Args:
        bound: the largest length.

    Raises:
        ValueError: n < 1, f < 0, f > n, or bound <= 0.

    >>> import numpy as np
    >>> shorter, _ = clip(n=2, f=0, bound=5).mix(np.array([[6, 8], [3, 4]], np.float32), None)
    >>> shorter.tolist()
    [[3.0, 4.0], [3.0, 4.0]]
    """
    require("clip", n, f, factor=1, offset=0)
    if not bound > 0:
        raise ValueError(f"clip needs a bound > 0, such as 1.0, got {bound!r}")

    @jax.jit
    def clipped(rows: Array) -> Array:
        return shortened(rows, lengths(rows, jnp.zeros_like(rows[0])), jnp.asarray(0.5 * bound, rows.dtype))

    def mix(rows: Array, context: Context | None) -> tuple[Array, Array]:
        return clipped(rows), jnp.eye(n, dtype=rows.dtype)

    return Mixer(n, mix)
