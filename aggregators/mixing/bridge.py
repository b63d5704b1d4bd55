"""BRIDGE (Yang, Bajwa 2019; Fang, Yang, Bajwa 2022): screening of each coordinate of the neighbours' models."""

from typing import Literal

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, require
from byzax.aggregators.kernels.columns import median_of_sorted, order_statistics, trimmed_mean
from byzax.aggregators.mixing.base import Models, mixing_without_state
from byzax.options import checked


@checked
def bridge(n: int, f: int, *, screening: Literal["trimmed_mean", "median"] = "trimmed_mean") -> Aggregator:
    """At each coordinate the mean or median of the own value and the screened ones of neighbours, `[n, d] -> [d]`.

        trimmed_mean: the mean of the own value and of the neighbours' without the f smallest and the f largest
        median: the median of the own value and the neighbours'

    Condition: n >= 2f + 2, which is 2f + 1 neighbours
    Cost: O(n log n d)

    The own value is never screened; the rule `trimmed_mean` over the neighbourhood trims it like the others, and needs
    one neighbour less. NaN counts as +inf.

    Args:
        n: Number of models, the node's own among them.
        f: Number of them that may be Byzantine.
        screening: `trimmed_mean` (BRIDGE-T) or `median` (BRIDGE-M).

    Returns:
        The mixing. Weights: none, as they differ from one coordinate to the next.

    Raises:
        PartError: For f < 0, or n < 2f + 2.
        OptionError: For another screening.

    References:
        Fang, Yang and Bajwa 2022, "BRIDGE: Byzantine-Resilient Decentralized Gradient Descent"
    """
    least_rows = require("bridge", n, f, factor=2, offset=2)

    def mix(models: Models) -> tuple[Array, Info]:
        if screening == "median":
            return median_of_sorted(order_statistics(models.rows, sorted({(n - 1) // 2, n // 2})), "mid"), Info()
        # the own row last, out of the way of those that are screened
        others = models.rows[jnp.argsort(models.around.own)][:-1]
        count = n - 1 - 2 * f
        kept = trimmed_mean(others, f, f + count)
        return models.own + (kept - models.own) * (count / (count + 1)), Info()

    return mixing_without_state("bridge", n, mix, least_rows=least_rows)
