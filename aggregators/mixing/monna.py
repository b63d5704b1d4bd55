"""MoNNA (Farhadkhani et al. 2023): the mean of the models nearest to the own one."""

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, require
from byzax.aggregators.kernels.choosing import mask_smallest
from byzax.aggregators.kernels.distances import squared_distances_to
from byzax.aggregators.kernels.means import mean_of
from byzax.aggregators.mixing.base import Models, mixing_without_state
from byzax.options import checked


@checked
def monna(n: int, f: int) -> Aggregator:
    """The mean of the n-f models nearest to the own one, itself among them, `[n, d] -> [d]`.

    Condition: n >= 2f + 1
    Cost: O(n d)

    The rule `monna` with the own model for its pivot. In the paper nodes go on by the first n-f models of n, and
    average the n-2f nearest of these; here all n are there. Models that are not finite are infinitely far.

    Args:
        n: Number of models, the node's own among them.
        f: Number of them that may be Byzantine.

    Returns:
        The mixing. Weights: 1/(n-f) for each model averaged.

    Raises:
        PartError: For f < 0, or n < 2f + 1.

    References:
        Farhadkhani et al., ICML 2023, "Robust Collaborative Learning with Linear Gradient Overhead" (MoNNA)
    """
    least_rows = require("monna", n, f, factor=2, offset=1)

    def mix(models: Models) -> tuple[Array, Info]:
        distances = squared_distances_to(models.rows, models.own)
        # the own model comes first, whatever is sent that equals it
        distances = jnp.where(models.around.own, -1, distances)
        result, weights = mean_of(models.rows, mask_smallest(distances, n - f, jnp.ones(n, bool)))
        return result, Info(weights)

    return mixing_without_state("monna", n, mix, linear=True, least_rows=least_rows)
