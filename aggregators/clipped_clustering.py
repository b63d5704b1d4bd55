"""ClippedClustering (Li et al. 2023): rows clipped to the usual norm, and the larger of two clusters of directions."""

from typing import Any

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import Aggregator, Array, Count, Info, require, stateful
from byzax.aggregators.kernels.clipping import clipped_mean, half_norms
from byzax.aggregators.kernels.cosines import cosine_distances
from byzax.aggregators.kernels.measures import lengths_from
from byzax.aggregators.kernels.sharding import ShardedForm, Steps, on_whole
from byzax.options import OptionError, checked

ROUNDING = 16  # times the spacing of numbers: pairs of clusters whose distances differ by less are equally close
MOST_NORMS = 2**28  # a gigabyte


@checked
def clipped_clustering(n: int, f: int, *, history: Count = 1000) -> Aggregator:
    """The mean of the larger of two clusters of directions, no row longer than the usual norm, `[n, d] -> [d]`.

        tau = median of the norms of all rows so far;  y_i = x_i min(1, tau / |x_i|)
        C = larger of two clusters of the y_i: average linkage of the distances 1 - cos(y_i, y_j)
        F = mean of the y_i in C

    Condition: n >= 2f + 1
    Cost: O(n² d + n³), and a sort of n `history` norms

    The state is the norms of the last `history` updates, this one's among them from the start; the median of an even
    number of norms is the mean of the two middle ones. The number f is in the condition only: nothing in the rule
    depends on it. Two clusters are made even where no row is Byzantine.

    Rows with a NaN or infinite entry have no direction: they are in no cluster, and their norms are not kept, as if
    they had not come. A row that is 0 has none either: its cosine to other rows counts as 0, to another row that is 0
    as 1. Ties: of pairs of clusters equally close (to 16 times the spacing of numbers) the one with the lowest indices,
    of clusters equally large the one with the lowest index.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        history: Number of updates whose norms are kept; `history` n is at most 2^28, a gigabyte of norms. The paper
            keeps all, and so does the rule for so many updates.

    Returns:
        The rule. Weights: the same for each row of C, shortened or not.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For history < 1, or history n > 2^28.

    Example:
        >>> import numpy as np
        >>> rule = clipped_clustering(n=4, f=1)
        >>> rows = np.array([[1, 0], [2, 0], [9, 0], [0, -2]], np.float32)
        >>> aggregate, state, info = rule.apply(rows, rule.init(2))
        >>> [round(float(x), 4) for x in aggregate], [round(float(x), 4) for x in info.weights]
        ([1.6667, 0.0], [0.3333, 0.3333, 0.3333, 0.0])

    References:
        Li, Ngai and Voigt, IEEE Transactions on Big Data 2023 (ClippedClustering)
    """
    least_rows = require("clipped_clustering", n, f, factor=2, offset=1)
    if history > MOST_NORMS // n:
        most = f"must be at most 2^28 / n = {MOST_NORMS // n}: a norm of each row is kept"
        raise OptionError("history", f"{most}, got history={history}")

    def steps(rows: Array, past: Array, *_: Any) -> Steps[tuple[Array, Array, Info]]:
        origin = jnp.zeros_like(rows[0])
        lengths = yield lengths_from(rows, origin)
        halves = half_norms(lengths)
        known = jnp.concatenate([halves[None].astype(past.dtype), past[:-1]])

        count = jnp.sum(jnp.isfinite(known))
        ascending = jnp.sort(known, axis=None).astype(rows.dtype)
        bound = 0.5 * ascending[jnp.maximum(count - 1, 0) // 2] + 0.5 * ascending[count // 2]

        empty = halves == 0
        cosines = yield from cosine_distances(rows, lengths)
        apart = jnp.where(empty[:, None] & empty[None, :], 0, cosines)
        chosen = larger_cluster(apart, lengths.finite)
        weights = chosen / jnp.maximum(jnp.sum(chosen), 1).astype(rows.dtype)
        return clipped_mean(rows, origin, lengths, bound, chosen), known, Info(weights)

    def init(d: int) -> Array:
        # +inf: no norm is known
        return jnp.zeros((history, n)) + jnp.inf

    rule = stateful(n, init, lambda rows, past: on_whole(steps(rows, past)), least_rows=least_rows)
    # all servers know the norms of whole rows
    return rule._replace(sharded=ShardedForm(2, lambda where, width: init(width), steps))


def larger_cluster(apart: Array, alive: Array) -> Array:
    """`[n]`: the larger of two clusters by average linkage of the distances `apart` `[n, n]` between rows alive."""
    n = len(alive)
    itself = jnp.eye(n, dtype=bool)

    def merge(_: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        between, size, cluster = state
        first = jnp.argmax(between.ravel() <= (1 + ROUNDING * jnp.finfo(apart.dtype).eps) * jnp.min(between))
        i, j = first // n, first % n
        # the average over all pairs of rows, from those of the two parts
        merged = (size[i] * between[i] + size[j] * between[j]) / (size[i] + size[j])
        between = between.at[i].set(merged).at[:, i].set(merged).at[j].set(jnp.inf).at[:, j].set(jnp.inf)
        return between, size.at[i].add(size[j]), jnp.where(cluster == j, i, cluster)

    between = jnp.where(alive[:, None] & alive[None, :] & ~itself, apart, jnp.inf)
    start = between, jnp.ones(n, apart.dtype), jnp.arange(n)
    _, size, cluster = lax.fori_loop(0, jnp.maximum(jnp.sum(alive) - 2, 0), merge, start)
    leads = alive & (cluster == jnp.arange(n))
    return alive & (cluster == jnp.argmax(jnp.where(leads, size, 0)))
