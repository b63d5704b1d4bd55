"""Divide and conquer (DnC): spectral filtering on random coordinates."""

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import Aggregator, Array, Context, Info, State, check_rows, distinct, drawn, require, whole
from byzax.aggregators.kernels.clipping import norms
from byzax.aggregators.kernels.distances import exponents, power
from byzax.aggregators.kernels.means import mean_of

MOST_ITERATIONS = 1000  # one compiled loop, which no signal ends


def dnc(n: int, f: int, *, coordinates: int = 10_000, iterations: int = 1, c: float = 1.0) -> Aggregator:
    """The mean of the rows that never stand out along the direction in which rows differ most.

        iterations times: on b random coordinates the c f rows with the largest s are dropped,
            s_i = <x_i - mean, v>², v = first right singular vector of the centred rows
        F = mean of the rows that no iteration drops

    Condition: n >= 2f + 1
    Cost: O(iterations n² b + n d)
    Source: Shejwalkar and Houmansadr, NDSS 2021, algorithm 2

    One row far out can hide others, and two liars break the rule: as many rows are dropped as may be Byzantine, but all
    of them along the direction of the farthest, to which another liar at a right angle is as near as the honest rows.
    That is so in exact arithmetic too: the attacks of the paper stay near the honest rows (`byzax certify --rule dnc
    -n 11 -f 2` finds two liars that do not). Where every row is dropped by some iteration, the rows dropped least often
    are averaged. Rows with a NaN or infinite entry have the largest s. The
    direction comes from the n by n matrix of products of the centred rows: its first eigenvector holds <x_i - mean, v>
    up to a common factor. Ties: of equal s the higher index is dropped.

    Args:
        coordinates: b, drawn anew in each iteration; all of them where there are fewer.
        iterations: how often.
        c: rows dropped in one iteration, as a multiple of f (rounded up).

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1, coordinates < 1, iterations outside 1..1000, c < 0 or c f >= n; without
            a context, since it draws.
    """
    require("dnc", n, f, factor=2, offset=1)
    whole("dnc", "coordinates", coordinates, 1)
    whole("dnc", "iterations", iterations, 1, MOST_ITERATIONS)
    dropped = -(-(c * f) // 1)
    if not 0 <= dropped < n:
        raise ValueError(f"dnc needs c >= 0 and c f < n = {n}, got c={c}, f={f}")

    @jax.jit
    def filtered(rows: Array, key: Array) -> tuple[Array, Array]:
        wide = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
        lengths = norms(wide)
        finite = jnp.isfinite(lengths)
        # only directions count: a common factor keeps squares in range; XLA would multiply by the inverse of a divisor,
        # and that of the largest floats is 0
        scale = power(-exponents(jnp.max(jnp.where(finite, lengths, 0))), wide.dtype)
        wide_scaled = jnp.where(finite[:, None], wide * scale, 0)

        def drop(key: Array) -> Array:
            count = min(coordinates, rows.shape[1])
            chosen = distinct(key, rows.shape[1], count)
            some = wide_scaled[:, chosen] if count < rows.shape[1] else wide_scaled
            mean, _ = mean_of(some, finite)
            centred = jnp.where(finite[:, None], some - mean, 0)
            _, vectors = jnp.linalg.eigh(jnp.matmul(centred, centred.T, precision=lax.Precision.HIGHEST))
            score = jnp.where(finite, vectors[:, -1] ** 2, jnp.inf)
            order = jnp.argsort(score, stable=True)
            return jnp.zeros(n, bool).at[order].set(jnp.arange(n) >= n - dropped)

        times = jnp.sum(lax.map(drop, jax.random.split(key, iterations)), axis=0)
        result, weights = mean_of(wide, times == jnp.min(times))
        return result.astype(rows.dtype), weights

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        result, weights = filtered(rows, drawn("dnc", context))
        return result, state, Info(weights)

    return Aggregator(lambda d: (), apply)
