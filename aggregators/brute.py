"""Brute: the average of the n-f rows that lie closest together, also known as minimum-diameter averaging (MDA)."""

import jax.numpy as jnp

from aggregators.base import Aggregator, Array, Info, require, stateless
from aggregators.kernels.cover import closest_subset
from aggregators.kernels.distances import pairwise
from aggregators.kernels.means import mean_of


def brute(n: int, f: int) -> Aggregator:
    """The mean of the subset of n-f rows with the smallest diameter, `[n, d] -> [d]`; exact for any n.

        F = mean of S,  S = the subset of n-f rows with the smallest max of |x_i - x_j| over i, j in S

    Condition: n >= 2f + 1
    Cost: O(n² d), and a search that is exponential in f at worst
    Source: El Mhamdi et al., ICML 2018 (Brute); El Mhamdi et al. 2020 (ByzSGD, where it is MDA)

    Nothing is enumerated: a diameter is possible if the pairs farther apart than it can be covered by f rows, and the
    smallest possible one is found by bisection over the distances. Weights: 1/(n-f) for the rows of the subset.

    Raises:
        ValueError: n < 1, f < 0 or n < 2f + 1.

    Ties: of several subsets with the smallest diameter the lexicographically first one. Rows with a NaN or infinite
    entry are in no subset, as long as they are at most f.

    >>> import numpy as np
    >>> rule = brute(n=5, f=2)
    >>> aggregate, _, info = rule.apply(np.array([[0], [1], [2], [3], [np.inf]], np.float32), rule.init(1))
    >>> aggregate.tolist(), (info.weights > 0).tolist()
    ([1.0], [True, True, True, False, False])
    """
    require("brute", n, f, factor=2, offset=1)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        result, weights = mean_of(rows, closest_subset(pairwise(rows), jnp.ones(n, bool), f))
        return result, Info(weights)

    def among(rows: Array):
        apart = pairwise(rows)
        return lambda alive: mean_of(rows, closest_subset(apart, alive, f))[0]

    return stateless(n, aggregate, among)
