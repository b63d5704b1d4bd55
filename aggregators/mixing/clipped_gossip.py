"""ClippedGossip (He, Karimireddy, Jaggi 2022): the differences to the own model are clipped."""

from typing import Literal

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Array, Info, Positive, require
from byzax.aggregators.kernels.clipping import measure_lengths, norms, shorten
from byzax.aggregators.mixing.base import Models, mixing_without_state
from byzax.options import checked


@checked
def clipped_gossip(
    n: int, f: int, *, tau: Literal["second_largest", "oracle"] | Positive = "second_largest"
) -> Aggregator:
    """The own model, moved by the differences to the others, each shortened to a length and weighted by its edge.

        x_i <- x_i + sum_j W_ij clip(x_j - x_i, tau_i),  clip(v, tau) = v min(1, tau / |v|)

    Condition: n >= f + 1
    Cost: O(n d)

    f is not used. What a Byzantine node can do is bounded by W_ij tau_i, whatever it sends. Models that are not finite
    move nothing.

    Args:
        n: Number of models, the node's own among them.
        f: Number of them that may be Byzantine.
        tau: The length: a number; `second_largest`, the second largest distance of a finite model from the own one
            (with one neighbour 0, so that the node keeps its model); or `oracle`, that of the proof, which knows who is
            Byzantine: sqrt(sum over honest j of W_ij |x_i - x_j|² / the weight of Byzantine neighbours).

    Returns:
        The mixing. Weights: W_ij min(1, tau / |x_j - x_i|) of a neighbour, and what is left to 1 of the own model.

    Raises:
        PartError: For f < 0, or n < f + 1.
        OptionError: For another tau.

    References:
        He, Karimireddy and Jaggi 2022, "Byzantine-Robust Decentralized Learning via ClippedGossip"
    """
    least_rows = require("clipped_gossip", n, f, factor=1, offset=1)

    def length(models: Models, distances: Array) -> Array:
        if not isinstance(tau, str):
            return jnp.asarray(tau, distances.dtype)
        finite = jnp.where(jnp.isfinite(distances), distances, 0)
        if tau == "second_largest":
            return jnp.sort(finite)[max(n - 2, 0)]
        byzantine, weights = models.around.byzantine, models.around.weights.astype(distances.dtype)
        delta = jnp.where(byzantine, weights, 0).sum()
        spread = jnp.where(byzantine, 0, weights * finite**2).sum()
        # without a Byzantine neighbour nothing is clipped
        return jnp.where(delta > 0, jnp.sqrt(spread / jnp.where(delta > 0, delta, 1)), jnp.inf)

    def mix(models: Models) -> tuple[Array, Info]:
        weights = models.around.weights.astype(models.rows.dtype)
        ways = models.rows - models.own
        lengths, distances = measure_lengths(ways, jnp.zeros_like(models.own)), norms(ways)
        bound = length(models, distances)
        shortened = shorten(ways, lengths, jnp.minimum(bound / 2, jnp.finfo(ways.dtype).max))
        factors = jnp.where(distances > bound, bound / jnp.where(distances > 0, distances, 1), 1)
        moving = jnp.where(models.around.own | ~lengths.finite, 0, weights * factors)
        shares = jnp.where(models.around.own, 1 - moving.sum(), moving)
        moved = jnp.where(models.around.own[:, None], 0, weights[:, None] * shortened).sum(axis=0)
        return models.own + moved, Info(shares)

    return mixing_without_state("clipped_gossip", n, mix, least_rows=least_rows, weighs=True)
