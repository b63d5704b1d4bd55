"""As far away, all in all, as the honest rows are from each other."""

from typing import Literal

import jax.numpy as jnp

from byzax.attacks._distances import direction, honest_distances
from byzax.attacks.base import Array, Attack, View, check, honest_mean, stateless


def min_sum(
    n: int,
    f: int,
    *,
    perturbation: Literal["unit", "sign", "std"] = "std",
    bound: Literal["largest", "smallest"] = "largest",
) -> Attack:
    """All Byzantine rows are moved against the honest mean, all in all no farther from honest rows than one of them.

    Formula: mean + gamma p, the largest gamma with sum_i |mean + gamma p - x_i|² <= max_i sum_j |x_i - x_j|²
    Knows: all honest rows
    Source: Shejwalkar and Houmansadr, NDSS 2021, "Manipulating the Byzantine" (AGR-agnostic, Min-Sum)

    The direction p is -mean / |mean| (unit), -sign(mean) or -deviation (std). The sum is one quadratic in
    gamma, so gamma is its root: exact, where the paper's code halves steps.
    Codes differ in ddof, which changes the length of p and not the row, and in whose rows they take: with unknown
    honest gradients the authors' take those of the Byzantine workers for mean, deviation and distances, which the
    scenario's `knowledge: colluding` does.

    Args:
        perturbation: the direction p, one of the paper's three.
        bound: the honest row that is the measure: the one with the largest sum, as in the paper's text, or with the
            smallest, as in its code.

    Raises:
        ValueError: unless 0 <= f <= n, or for an unknown direction or bound.
    """
    check("min_sum", n, f)
    against = direction("min_sum", perturbation)
    if bound not in ("largest", "smallest"):
        raise ValueError(f"min_sum knows the bounds largest and smallest, got {bound!r}")

    def forged(key: Array, view: View) -> Array:
        mean, towards = honest_mean(view), against(view)
        to_mean, between = honest_distances(view)
        sums = between.sum(axis=1)
        most = sums.max() if bound == "largest" else jnp.min(jnp.where(view.known, sums, jnp.inf))
        squared = view.known.sum() * jnp.vdot(towards, towards)
        # the distances to the mean add up to sum |mean - x_i|² + m |p|² gamma²: what is linear in gamma cancels
        gamma = jnp.sqrt(jnp.maximum(most - to_mean.sum(), 0) / squared)
        return mean + jnp.where((squared > 0) & jnp.isfinite(gamma), gamma, 0) * towards

    return stateless(forged)
