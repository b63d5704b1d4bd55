"""Bucketing (Karimireddy et al. 2022): means of random buckets of rows."""

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Array, Context, Count, require, require_key
from byzax.aggregators.pre.base import Mixer, mix_by_coordinate
from byzax.options import OptionError, checked


@checked
def bucketing(n: int, f: int, *, s: Count = 2) -> Mixer:
    """Means of buckets of s rows each, dealt at random at every update, `[n, d] -> [ceil(n/s), d]`.

        y_i = mean of x_pi(s i), ..., x_pi(s i + s - 1), pi a random permutation; the last bucket may be smaller

    Condition: n >= 2f + 1, and what follows must accept ceil(n/s) rows with the same f
    Cost: O(n d)

    A row with a NaN or infinite entry makes its bucket so, and no other.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        s: Number of rows in a bucket, 1 to n; 1 leaves the rows as they are.

    Returns:
        The pre-aggregation. Its `mix` raises ValueError without a context, since it draws.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For s outside 1..n.

    References:
        Karimireddy, He and Jaggi, ICLR 2022, algorithm 1 ("bucketing"; "resampling" in an earlier version)
    """
    least_rows = require("bucketing", n, f, factor=2, offset=1)
    if s > n:
        raise OptionError("s", f"must be at most n = {n}: a bucket holds no more rows, got s={s}")
    buckets = -(-n // s)
    sizes = jnp.minimum(s, n - s * jnp.arange(buckets))

    @jax.jit
    def mixed(rows: Array, key: Array) -> tuple[Array, Array]:
        order = jnp.pad(jax.random.permutation(key, n), (0, buckets * s - n)).reshape(buckets, s)
        part = (1 / sizes).astype(rows.dtype)[:, None]
        total = jnp.zeros((buckets, rows.shape[1]), rows.dtype)
        for place in range(s):
            total = total + jnp.where(place < sizes[:, None], rows[order[:, place]] * part, 0)
        counts = jnp.arange(s) < sizes[:, None]
        shares = jnp.zeros((buckets, n), rows.dtype).at[jnp.arange(buckets)[:, None], order].add(counts * part)
        return total, shares

    def mix(rows: Array, context: Context | None) -> tuple[Array, Array]:
        return mixed(rows, require_key("bucketing", context))

    def least_rows_kept(kept: int, f: int) -> int:
        return max(s * (kept - 1) + 1, s, least_rows(f))

    return Mixer(buckets, mix, linear=True, least_rows=least_rows_kept, sharded=mix_by_coordinate(mix))
