"""Nearest-neighbour mixing (NNM; Allouah et al. 2023): each row becomes the mean of the rows closest to it."""

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import Array, Context, require
from byzax.aggregators.kernels.blocks import Part, block_width, map_blocks
from byzax.aggregators.kernels.columns import sort_columns
from byzax.aggregators.kernels.measures import distances_between
from byzax.aggregators.kernels.sharding import Steps, on_whole
from byzax.aggregators.pre.base import Mixer, ShardedMix
from byzax.options import checked


@checked
def nnm(n: int, f: int) -> Mixer:
    """Each row becomes the mean of the n-f rows closest to it, itself among them, `[n, d] -> [n, d]`.

        y_i = mean of x_i and the n-f-1 other rows closest to it

    Condition: n >= 2f + 1
    Cost: O(n² d), two matrix products

    A row with a NaN or infinite entry is nobody's neighbour while there are n-f others; in its own place stands the
    mean of the first n-f others. Ties: the lowest index.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.

    Returns:
        The pre-aggregation.

    Raises:
        PartError: For f < 0, or n < 2f + 1.

    Example:
        >>> import numpy as np
        >>> mixed, _ = nnm(n=3, f=1).mix(np.array([[0], [2], [9]], np.float32), None)
        >>> mixed.ravel().tolist()
        [1.0, 1.0, 5.5]

    References:
        Allouah et al., AISTATS 2023, "Fixing by Mixing", algorithm 2
    """
    least_rows = require("nnm", n, f, factor=2, offset=1)

    def steps(rows: Array, context: Context | None) -> Steps[tuple[Array, Array]]:
        squared, finite, _ = yield distances_between(rows)
        # by the n-f-th smallest distance: to sort indices with the distances takes ten times as long
        farthest = sort_columns(squared)[n - f - 1][:, None]
        closer, tied = squared < farthest, (squared == farthest) & finite
        place = jnp.where(finite, jnp.cumsum(tied, axis=1), jnp.sum(tied, axis=1, keepdims=True) + jnp.cumsum(~finite))
        last = (tied | ~finite) & (place <= n - f - jnp.sum(closer, axis=1, keepdims=True))
        shares = (closer | last).astype(rows.dtype) / (n - f)
        # 0 times NaN or infinity is NaN; rows that are not finite have no share unless they are more than f
        used = finite[:, None] | (jnp.sum(finite) < n - f)

        def means(part: Part) -> Array:
            return jnp.matmul(shares, jnp.where(used, part(rows), 0), precision=lax.Precision.HIGHEST)

        return map_blocks(rows.shape[1], block_width(rows), means), shares

    mixed = jax.jit(lambda rows: on_whole(steps(rows, None)))

    def mix(rows: Array, context: Context | None) -> tuple[Array, Array]:
        return mixed(rows)

    return Mixer(n, mix, linear=True, least_rows=lambda kept, f: max(kept, least_rows(f)), sharded=ShardedMix(1, steps))
