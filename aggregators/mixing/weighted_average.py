"""The average with the weights of the edges (D-PSGD, Lian et al. 2017)."""

from byzax.aggregators.base import Aggregator, Array, Info, require
from byzax.aggregators.kernels.means import sum_of_differences
from byzax.aggregators.mixing.base import Models, mixing_without_state
from byzax.options import checked


@checked
def weighted_average(n: int, f: int) -> Aggregator:
    """The average of the models with the weights of the edges, `[n, d] -> [d]`.

        x_i <- sum_j W_ij x_j

    Condition: n >= f + 1
    Cost: O(n d)

    W are the weights that the graph gives, or Metropolis weights; they are equal at both ends of an edge, so that
    without Byzantine nodes the mean of all models stays where it is. One Byzantine neighbour can make the result any
    vector.

    Args:
        n: Number of models, the node's own among them.
        f: Number of them that may be Byzantine.

    Returns:
        The mixing. Weights: W.

    Raises:
        PartError: For f < 0, or n < f + 1.

    References:
        Lian et al., NeurIPS 2017 (D-PSGD)
        Xiao, Boyd and Kim 2007, "Distributed average consensus with least-mean-square deviation" (Metropolis weights)
    """
    least_rows = require("weighted_average", n, f, factor=1, offset=1)

    def mix(models: Models) -> tuple[Array, Info]:
        weights = models.around.weights.astype(models.rows.dtype)
        return models.own + sum_of_differences(models.rows, weights, models.own), Info(weights)

    return mixing_without_state("weighted_average", n, mix, linear=True, least_rows=least_rows, weighs=True)
