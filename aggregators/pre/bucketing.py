"""Bucketing."""

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Array, Context, drawn, require, whole
from byzax.aggregators.pre.base import Mixer


def bucketing(n: int, f: int, *, s: int = 2) -> Mixer:
    """Means of buckets of s rows each, dealt at random at every update, `[n, d] -> [ceil(n/s), d]`.

        y_i = mean of x_pi(s i), ..., x_pi(s i + s - 1), pi a random permutation; the last bucket may be smaller

    Condition: n >= 2f + 1, and what follows must accept ceil(n/s) rows with the same f
    Cost: O(n d)
    Source: Karimireddy, He and Jaggi, ICLR 2022, algorithm 1 ("bucketing"; "resampling" in an earlier version)

    A row with a NaN or infinite entry makes its bucket so, and no other.

    Args:
        s: rows in a bucket; 1 leaves the rows as they are.

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1, or s outside 1..n; without a context, since it draws.
    """
    require("bucketing", n, f, factor=2, offset=1)
    whole("bucketing", "s", s)
    if not 1 <= s <= n:
        raise ValueError(f"bucketing needs 1 <= s <= n = {n} rows in a bucket, got s={s}")
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
        return mixed(rows, drawn("bucketing", context))

    return Mixer(buckets, mix)
