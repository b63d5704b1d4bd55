"""Divide and conquer (DnC; Shejwalkar and Houmansadr 2021): spectral filtering on random coordinates."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import (
    Aggregator,
    Array,
    Context,
    Count,
    Info,
    Iterations,
    NotNegative,
    State,
    check_rows,
    require,
    require_key,
)
from byzax.aggregators.kernels.choosing import columns_drawn, draw_distinct
from byzax.aggregators.kernels.clipping import whole_norms
from byzax.aggregators.kernels.distances import exponents, power_of_two
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.kernels.measures import lengths_from
from byzax.aggregators.kernels.sharding import ShardedForm, Slice, Steps, on_whole, total_of
from byzax.options import OptionError, checked


@checked
def dnc(n: int, f: int, *, coordinates: Count = 10_000, iterations: Iterations = 1, c: NotNegative = 1.0) -> Aggregator:
    """The mean of the rows that never stand out along the direction in which rows differ most.

        iterations times: on b random coordinates the c f rows with the largest s are dropped,
            s_i = <x_i - mean, v>², v = first right singular vector of the centred rows
        F = mean of the rows that no iteration drops

    Condition: n >= 2f + 1
    Cost: O(iterations n² b + n d)

    One row far out can hide others, and two Byzantine workers break the rule: as many rows are dropped as may be
    Byzantine, but all of them along the direction of the farthest, to which another Byzantine row at a right angle is
    as near as the honest rows. That is so in exact arithmetic too: the attacks of the paper stay near the honest rows
    (`byzax certify --rule dnc -n 11 -f 2` finds two Byzantine workers that do not). Where every row is dropped by some
    iteration, the rows dropped least often are averaged.

    Rows with a NaN or infinite entry have the largest s. The direction comes from the n by n matrix of products of the
    centred rows: its first eigenvector holds <x_i - mean, v> up to a common factor. Ties: of equal s the higher index
    is dropped.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        coordinates: The number b, drawn anew in each iteration; all of them where there are fewer.
        iterations: Number of iterations.
        c: Number of rows dropped in one iteration, as a multiple of f (rounded up); c f is below n.

    Returns:
        The rule. Weights: the same for each row averaged. Its `apply` raises ValueError without a context, since it
        draws.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For coordinates < 1, iterations outside 1..1000, c < 0 or c f > n - 1.

    References:
        Shejwalkar and Houmansadr, NDSS 2021, algorithm 2
    """
    least_rows = require("dnc", n, f, factor=2, offset=1)
    dropped = -(-(c * f) // 1)
    if dropped >= n:
        raise OptionError("c", f"must be at most (n - 1) / f = {(n - 1) / f:g}: one row must be left, got c={c}")

    def steps(wide: Array, key: Array, where: Slice | None) -> Steps[tuple[Array, Array]]:
        d = wide.shape[1] if where is None else where.d
        measured = yield lengths_from(wide, jnp.zeros_like(wide[0]))
        lengths = whole_norms(measured)
        finite = jnp.isfinite(lengths)
        # only directions count: a common factor keeps squares in range; XLA would multiply by the inverse of a divisor,
        # and that of the largest floats is 0
        scale = power_of_two(-exponents(jnp.max(jnp.where(finite, lengths, 0))), wide.dtype)
        wide_scaled = jnp.where(finite[:, None], wide * scale, 0)

        def products(key: Array) -> Array:
            chosen = draw_distinct(key, d, coordinates) if coordinates < d else None
            some, _ = columns_drawn(wide_scaled, chosen, where)
            mean, _ = mean_of(some, finite)
            centred = jnp.where(finite[:, None], some - mean, 0)
            return jnp.matmul(centred, centred.T, precision=lax.Precision.HIGHEST)

        def drop(product: Array) -> Array:
            _, vectors = jnp.linalg.eigh(product)
            score = jnp.where(finite, vectors[:, -1] ** 2, jnp.inf)
            order = jnp.argsort(score, stable=True)
            return jnp.zeros(n, bool).at[order].set(jnp.arange(n) >= n - dropped)

        of_draws = yield total_of(lax.map(products, jax.random.split(key, iterations)))
        times = jnp.sum(lax.map(drop, of_draws), axis=0)
        return mean_of(wide, times == jnp.min(times))

    @jax.jit
    def filtered(rows: Array, key: Array) -> tuple[Array, Array]:
        wide = rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
        result, weights = on_whole(steps(wide, key, None))
        return result.astype(rows.dtype), weights

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        result, weights = filtered(rows, require_key("dnc", context))
        return result, state, Info(weights)

    def of_slice(rows: Array, state: State, context: Context | None, where: Slice) -> Steps[Any]:
        result, weights = yield from steps(rows, require_key("dnc", context), where)
        return result, state, Info(weights)

    return Aggregator(
        lambda d: (),
        apply,
        linear=True,
        least_rows=lambda f: max(least_rows(f), math.ceil(c * f) + 1),
        sharded=ShardedForm(2, lambda where, width: (), of_slice),
    )
