"""Brute: the average of the n-f rows that lie closest together, also known as minimum-diameter averaging (MDA)."""

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, limited, require, stateless, whole
from byzax.aggregators.kernels.cover import EFFORT, closest_subset
from byzax.aggregators.kernels.distances import Distances, pairwise
from byzax.aggregators.kernels.means import mean_of


def brute(n: int, f: int, *, effort: int = EFFORT) -> Aggregator:
    """The mean of the subset of n-f rows with the smallest diameter, `[n, d] -> [d]`; exact for any n.

        F = mean of S,  S = the subset of n-f rows with the smallest max of |x_i - x_j| over i, j in S

    Condition: n >= 2f + 1
    Cost: O(n² d), and a search that is exponential in f at worst
    Source: El Mhamdi et al., ICML 2018 (Brute); El Mhamdi et al. 2020 (ByzSGD, where it is MDA)

    Nothing is enumerated: a diameter is possible if the pairs farther apart than it can be covered by f rows, and the
    smallest possible one is found by bisection over the distances. Weights: 1/(n-f) for the rows of the subset.

    Args:
        effort: steps that the search may take, each O(n²). Random and attacked rows took 250 (n=50, f=10) to 40,000
            (n=1000, f=200). Where they do not suffice there is an error, or in compiled code an aggregate of NaN that
            `Info` says to be undecided; a scenario's run then fails, naming the update.

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1 or effort < 1.
        RuntimeError: by apply, where the effort does not suffice.

    Ties: of several subsets with the smallest diameter the lexicographically first one. Rows with a NaN or infinite
    entry are in no subset, as long as they are at most f.

    >>> import numpy as np
    >>> rule = brute(n=5, f=2)
    >>> aggregate, _, info = rule.apply(np.array([[0], [1], [2], [3], [np.inf]], np.float32), rule.init(1))
    >>> aggregate.tolist(), (info.weights > 0).tolist()
    ([1.0], [True, True, True, False, False])
    """
    require("brute", n, f, factor=2, offset=1)
    whole("brute", "effort", effort, 1)

    def mean_of_closest(rows: Array, apart: Distances, alive: Array) -> tuple[Array, Info]:
        subset, undecided = closest_subset(apart, alive, f, effort)
        result, weights = mean_of(rows, subset)
        return jnp.where(undecided, jnp.nan, result), Info(weights, undecided=undecided)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        return mean_of_closest(rows, pairwise(rows), jnp.ones(n, bool))

    def among(rows: Array):
        apart = pairwise(rows)
        return lambda alive: mean_of_closest(rows, apart, alive)[0]

    return limited("brute", stateless(n, aggregate, among))
