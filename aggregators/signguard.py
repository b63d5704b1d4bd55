"""SignGuard (Xu et al. 2022): rows of a usual norm, with as many positive and negative numbers as most."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Context, Info, Share, State, check_rows, require, require_key
from byzax.aggregators.kernels.choosing import columns_drawn, draw_distinct
from byzax.aggregators.kernels.clipping import clipped_mean, half_median_norm, half_norms
from byzax.aggregators.kernels.columns import sort_columns
from byzax.aggregators.kernels.cosines import cosine_distances
from byzax.aggregators.kernels.mean_shift import largest_cluster
from byzax.aggregators.kernels.measures import distances_between, lengths_from
from byzax.aggregators.kernels.sharding import ShardedForm, Slice, Steps, on_whole, together, total_of
from byzax.options import checked

LOW, HIGH = 0.1, 3.0  # the paper's L and R
FAR = 1e10  # times the usual distance
ROUNDING = 16  # times the spacing of numbers: lengths that are out of these bounds by no more are within


@checked
def signguard(
    n: int, f: int, *, share: Share = 0.1, similarity: Literal["none", "cosine", "distance"] = "none"
) -> Aggregator:
    """The mean of the rows that two filters pass, of their lengths and of their signs, clipped to the median length.

        S1 = rows with 0.1 <= |x_i| / M <= 3,  M = median of the norms
        S2 = largest cluster (mean shift) of the shares of positive, zero and negative numbers in random coordinates
        F = mean of x_i min(1, M / |x_i|) over S1 and S2

    Condition: n >= 2f + 1
    Cost: O(n d), and O(n²) for each of a few steps; O(n² d) with a similarity

    Nothing is promised against rows that are as long as the others and have as many numbers of each sign. The number f
    is in the condition only. The bandwidth of the mean shift is that of the authors' code: the mean over the rows of
    the distance to the nearest half of them. Their code differs in that it takes neighbouring coordinates, starts the
    mean shift from a grid, divides each share by the largest among the rows (so that one number that is 0 decides), and
    counts NaN as 0.

    Rows with a NaN or infinite entry are in neither set; among the norms they are the largest. Where no row is in both
    sets, S1 is taken: it holds a row wherever half of them are finite. The median of an even number is the mean of the
    two middle ones. Ties: of equally large clusters the one with the most rows around its peak, then the lowest index.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        share: Share of the coordinates whose signs are counted, drawn anew at every update; 1 takes all and draws
            nothing.
        similarity: A fourth feature, or `none`. `cosine` (SignGuard-Sim): the median of the cosines to the other rows.
            `distance` (SignGuard-Dist): the median of the distances to the other rows, over the median of these, at
            most 2. The authors compare with the last aggregate after the first updates; here every update stands alone.

    Returns:
        The rule. Weights: the same for each row taken, shortened or not. Its `apply` raises ValueError without a
        context if share < 1, since it draws.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For a share outside (0, 1], or a similarity that is none of those named.

    Example:
        >>> import numpy as np
        >>> rule = signguard(n=5, f=2, share=1.0)
        >>> rows = np.array([[1, 2], [3, 1], [2, 1], [-2, -1], [900, 9]], np.float32)
        >>> aggregate, _, info = rule.apply(rows, rule.init(2))
        >>> [round(float(x), 4) for x in info.weights]
        [0.3333, 0.3333, 0.3333, 0.0, 0.0]

    References:
        Xu, Huang, Song and Lan, ICDCS 2022, algorithm 2 (SignGuard)
    """
    least_rows = require("signguard", n, f, factor=2, offset=1)

    def steps(wide: Array, key: Array | None, where: Slice | None) -> Steps[tuple[Array, Array]]:
        d = wide.shape[1] if where is None else where.d
        count = math.ceil(share * d)
        some, drawn = columns_drawn(wide, None if key is None else draw_distinct(key, d, count), where)
        signs = [jnp.sum(sign & drawn, axis=1, dtype=wide.dtype) for sign in (some > 0, some == 0, some < 0)]
        origin = jnp.zeros_like(wide[0])
        lengths, counts = yield together(lengths_from(wide, origin), total_of(jnp.stack(signs)))
        halves, middle = half_norms(lengths), half_median_norm(lengths)
        rounding = ROUNDING * jnp.finfo(wide.dtype).eps
        usual = lengths.finite & (halves >= (1 - rounding) * LOW * middle) & (halves <= (1 + rounding) * HIGH * middle)

        features = [*(counts / (d if key is None else count))]
        if similarity == "cosine":
            cosines = yield from cosine_distances(wide, lengths)
            features.append(1 - median_of_others(cosines, lengths.finite))
        if similarity == "distance":
            squared, _, _ = yield distances_between(wide)
            typical = jnp.minimum(median_of_others(jnp.sqrt(squared), lengths.finite), FAR)
            centre = jnp.nanmedian(jnp.where(lengths.finite, typical, jnp.nan))
            ratio = typical / jnp.where(centre > 0, centre, 1)
            features.append(jnp.where(centre > 0, jnp.minimum(ratio, 2), jnp.where(typical > 0, 2, 0)))

        both = usual & largest_cluster(jnp.stack(features, axis=1), lengths.finite)
        chosen = jnp.where(both.any(), both, jnp.where(usual.any(), usual, lengths.finite))
        weights = chosen / jnp.maximum(jnp.sum(chosen), 1).astype(wide.dtype)
        return clipped_mean(wide, origin, lengths, middle, chosen), weights

    @jax.jit
    def guarded(rows: Array, key: Array | None) -> tuple[Array, Array]:
        result, weights = on_whole(steps(rows.astype(jnp.promote_types(rows.dtype, jnp.float32)), key, None))
        return result.astype(rows.dtype), weights

    def key_of(context: Context | None) -> Array | None:
        return require_key("signguard", context) if share < 1 else None

    def apply(rows: Array, state: State, context: Context | None = None) -> tuple[Array, State, Info]:
        check_rows(rows, n)
        result, weights = guarded(rows, key_of(context))
        return result, state, Info(weights)

    def of_slice(rows: Array, state: State, context: Context | None, where: Slice) -> Steps[Any]:
        result, weights = yield from steps(rows, key_of(context), where)
        return result, state, Info(weights)

    sharded = ShardedForm(1 + (similarity != "none"), lambda where, width: (), of_slice)
    return Aggregator(lambda d: (), apply, least_rows=least_rows, sharded=sharded)


def median_of_others(between: Array, alive: Array) -> Array:
    """Medians over the other rows alive.

    Args:
        between: `[n, n]`, symmetric.
        alive: `[n]`.

    Returns:
        `[n]`, the median of each row of `between` over the other rows alive; 0 without others.
    """
    count = jnp.sum(alive) - alive
    itself = jnp.eye(len(alive), dtype=bool)
    ascending = sort_columns(jnp.where(alive[:, None] & ~itself, between, jnp.inf))
    low, high = jnp.maximum(count - 1, 0) // 2, count // 2
    middle = 0.5 * (jnp.take_along_axis(ascending, low[None], 0) + jnp.take_along_axis(ascending, high[None], 0))
    return jnp.where(count > 0, middle[0], 0)
