"""Krum: the row with the smallest sum of distances to its closest neighbours."""

from typing import Literal, get_args

import jax.numpy as jnp

from aggregators.base import Aggregator, Array, Info, choice, eligible, require, stateless
from aggregators.kernels.distances import first_smallest, pairwise, sums_of_nearest

Distance = Literal["squared", "plain"]
Neighbours = Literal["n-f-2", "n-f-1"]


def krum(n: int, f: int, *, distance: Distance = "squared", neighbours: Neighbours = "n-f-2") -> Aggregator:
    """The one row that is closest to its n-f-2 nearest others, `[n, d] -> [d]`.

        s(i) = sum of |x_i - x_j|² over the n-f-2 other rows j closest to x_i;  F = x_k with the smallest s(k)

    Condition: n >= 2f + 3
    Cost: O(n² d)
    Source: Blanchard et al., NeurIPS 2017, "Machine Learning with Adversaries"

    Args:
        distance: `plain` sums distances that are not squared (LPD's PyTorch codes); the order of single distances is
            the same, that of their sums is not.
        neighbours: `n-f-1` counts one neighbour more (LPD's PyTorch codes, byzfl).

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 3, or an option that is none of those named.

    Ties: the lowest index wins. A row with a NaN or infinite entry is infinitely far from all others and never wins
    while a finite row is there. Other variants in circulation: fourth powers of distances (epfml), n-f or n-f-3
    neighbours (codes of ALIE and of Shejwalkar and Houmansadr).

    >>> import numpy as np
    >>> rule = krum(n=5, f=1)
    >>> aggregate, _, info = rule.apply(np.array([[0], [1], [2], [4], [np.nan]], np.float32), rule.init(1))
    >>> aggregate.tolist(), info.weights.tolist()
    ([1.0], [0.0, 1.0, 0.0, 0.0, 0.0])
    """
    require("krum", n, f, factor=2, offset=3)
    choice("krum", "distance", distance, get_args(Distance))
    choice("krum", "neighbours", neighbours, get_args(Neighbours))
    fewer = f + 2 if neighbours == "n-f-2" else f + 1

    def selection(rows: Array):
        squared, finite, _ = pairwise(rows)
        sums = sums_of_nearest(squared if distance == "squared" else jnp.sqrt(squared))

        def select(alive: Array) -> Array:
            # Bulyan empties the pool below what krum itself accepts: then one neighbour is used.
            count = jnp.maximum(jnp.sum(alive) - fewer, 1)
            return first_smallest(sums(alive, count), eligible(alive, finite))

        return select

    def aggregate(rows: Array) -> tuple[Array, Info]:
        winner = selection(rows)(jnp.ones(n, bool))
        return rows[winner], Info((jnp.arange(n) == winner).astype(rows.dtype))

    def among(rows: Array):
        select = selection(rows)
        return lambda alive: rows[select(alive)]

    return stateless(n, aggregate, among)
