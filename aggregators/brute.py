"""Brute, also minimum-diameter averaging (MDA; El Mhamdi et al. 2018): the mean of the n-f rows closest together."""

import jax.numpy as jnp

from byzax.aggregators.base import (
    AggregateAlive,
    Aggregator,
    Array,
    Count,
    Info,
    in_exchanges,
    limited,
    require,
)
from byzax.aggregators.kernels.cover import EFFORT, closest_subset
from byzax.aggregators.kernels.distances import Distances, pairwise_distances
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.kernels.measures import distances_between
from byzax.aggregators.kernels.sharding import Steps
from byzax.options import checked


@checked
def brute(n: int, f: int, *, effort: Count = EFFORT) -> Aggregator:
    """The mean of the subset of n-f rows with the smallest diameter, `[n, d] -> [d]`; exact for any n.

        F = mean of S,  S = the subset of n-f rows with the smallest max of |x_i - x_j| over i, j in S

    Condition: n >= 2f + 1
    Cost: O(n² d), and a search that is exponential in f at worst

    No subset is enumerated: a diameter is possible if the pairs farther apart than it can be covered by f rows, and the
    smallest possible one is found by bisection over the distances.

    Rows with a NaN or infinite entry are in no subset, as long as they are at most f. Ties: of several subsets with the
    smallest diameter the lexicographically first one.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        effort: Steps that the search may take, each O(n²). Random and attacked rows took 250 (n=50, f=10) to 40,000
            (n=1000, f=200). Where they do not suffice there is an error, or in compiled code an aggregate of NaN that
            `Info` says to be undecided; a scenario's run then fails, naming the update.

    Returns:
        The rule. Weights: 1/(n-f) for the rows of the subset. Its `apply` raises RuntimeError where the effort does not
        suffice.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For effort < 1.

    Example:
        >>> import numpy as np
        >>> rule = brute(n=5, f=2)
        >>> aggregate, _, info = rule.apply(np.array([[0], [1], [2], [3], [np.inf]], np.float32), rule.init(1))
        >>> aggregate.tolist(), (info.weights > 0).tolist()
        ([1.0], [True, True, True, False, False])

    References:
        El Mhamdi et al., ICML 2018 (Brute); El Mhamdi et al. 2020 (ByzSGD, where it is MDA)
    """
    least_rows = require("brute", n, f, factor=2, offset=1)

    def mean_of_closest(rows: Array, apart: Distances, alive: Array) -> tuple[Array, Info]:
        subset, undecided = closest_subset(apart, alive, f, effort)
        result, weights = mean_of(rows, subset)
        return jnp.where(undecided, jnp.nan, result), Info(weights, undecided=undecided)

    def steps(rows: Array) -> Steps[tuple[Array, Info]]:
        apart = yield distances_between(rows)
        return mean_of_closest(rows, apart, jnp.ones(n, bool))

    def among(rows: Array) -> AggregateAlive:
        apart = pairwise_distances(rows)
        return lambda alive: mean_of_closest(rows, apart, alive)[0]

    return limited("brute", in_exchanges(n, steps, 1, among, linear=True, least_rows=least_rows))
