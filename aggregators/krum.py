"""Krum (Blanchard et al. 2017): the row with the smallest sum of distances to its closest neighbours."""

from collections.abc import Callable

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, require, selecting
from byzax.aggregators.kernels.choosing import eligible, first_of_least_sum
from byzax.aggregators.kernels.distances import build_sums_of_nearest
from byzax.aggregators.kernels.measures import distances_between
from byzax.aggregators.kernels.scores import Distance, Neighbours, neighbour_count, score_summands
from byzax.aggregators.kernels.sharding import Steps
from byzax.options import checked


@checked
def krum(
    n: int, f: int, *, distance: Distance = "squared", neighbours: Neighbours = "n-f-2", unproven: bool = False
) -> Aggregator:
    """The one row that is closest to its n-f-2 nearest others, `[n, d] -> [d]`.

        s(i) = sum of |x_i - x_j|² over the n-f-2 other rows j closest to x_i;  F = x_k with the smallest s(k)

    Condition: n >= 2f + 3
    Cost: O(n² d)

    Proven: (alpha, f)-resilience for the paper's definition, which is the default; kappa <= 6 (n-f) / (k+1-f) for
    squared distances to k = n-f-1, n-f-2 or n-f-3 neighbours, where that is above 0 (Allouah et al., AISTATS 2023, for
    k = n-f-1; their proof for the others). Nothing is proven here of the other options.

    A row with a NaN or infinite entry is infinitely far from all others and never wins while a finite row is there.
    Ties: the lowest index wins.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        distance: The summand: `plain` distances (LPD's PyTorch codes, ALIE's), `squared` ones, or their `fourth` powers
            (epfml's codes and blades, which square twice). The order of single distances is the same, that of their
            sums is not.
        neighbours: Number of other rows: `n-f-1` (LPD's PyTorch codes, byzfl), `n-f-3` (Shejwalkar and Houmansadr, who
            count the row itself) or `n-f` (ALIE's code); at least one, at most all others.
        unproven: Whether n >= 2f + 1 suffices, as byzfl and ALIE's code have it (epfml's n >= 2f + 2).

    Returns:
        The rule. Weights: 1 for the row.

    Raises:
        PartError: For f < 0, or n < 2f + 3 (2f + 1 with unproven).
        OptionError: For an option that is none of those named.

    Example:
        >>> import numpy as np
        >>> rule = krum(n=5, f=1)
        >>> aggregate, _, info = rule.apply(np.array([[0], [1], [2], [4], [np.nan]], np.float32), rule.init(1))
        >>> aggregate.tolist(), info.weights.tolist()
        ([1.0], [0.0, 1.0, 0.0, 0.0, 0.0])

    References:
        Blanchard et al., NeurIPS 2017, "Machine Learning with Adversaries"
    """
    least_rows = require("krum", n, f, factor=2, offset=3, unproven=unproven)

    def build_selection(rows: Array) -> Steps[Callable[[Array], Array]]:
        squared, finite, _ = yield distances_between(rows)
        sums = build_sums_of_nearest(score_summands(squared, distance))

        def select(alive: Array) -> Array:
            # Bulyan empties the pool below what krum itself accepts: then one neighbour is used
            count = neighbour_count(jnp.sum(alive), f, neighbours)
            return first_of_least_sum(sums(alive, count), eligible(alive, finite))

        return select

    return selecting(n, build_selection, 1, least_rows=least_rows)
