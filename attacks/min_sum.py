"""Min-Sum (Shejwalkar and Houmansadr 2021): rows whose squared distances to honest rows sum to no more than theirs."""

from typing import Literal

import jax.numpy as jnp

from byzax.attacks._distances import Perturbation, build_direction, honest_distances
from byzax.attacks.base import Array, Attack, View, check, honest_mean, stateless
from byzax.options import checked


@checked
def min_sum(
    n: int, f: int, *, perturbation: Perturbation = "std", bound: Literal["largest", "smallest"] = "largest"
) -> Attack:
    """All Byzantine rows are moved against the mean; their squared distances sum to no more than for an honest one.

    Formula: mean + gamma p, the largest gamma with sum_i |mean + gamma p - x_i|² <= max_i sum_j |x_i - x_j|²
    Knows: all honest rows

    The direction p is -mean / |mean| (unit), -sign(mean) or -deviation (std). The sum is one quadratic in
    gamma, so gamma is its root: exact, where the paper's code halves steps.
    Codes differ in ddof, which changes the length of p and not the row, and in whose rows they take: with unknown
    honest gradients the authors' take those of the Byzantine workers for mean, deviation and distances, which the
    scenario's `knowledge: colluding` does.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        perturbation: The direction p, one of the paper's three.
        bound: The honest row whose sum is the bound: the one with the largest sum, as in the paper's text, or with the
            smallest, as in its code.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Shejwalkar and Houmansadr, NDSS 2021, "Manipulating the Byzantine" (AGR-agnostic, Min-Sum)
    """
    check("min_sum", n, f)
    direction = build_direction(perturbation)

    def make_row(key: Array, view: View) -> Array:
        mean, p = honest_mean(view), direction(view)
        to_mean, between = honest_distances(view)
        sums = between.sum(axis=1)
        most = sums.max() if bound == "largest" else jnp.min(jnp.where(view.known, sums, jnp.inf))
        squared = view.known.sum() * jnp.vdot(p, p)
        # the distances to the mean add up to sum |mean - x_i|² + m |p|² gamma²: what is linear in gamma cancels
        gamma = jnp.sqrt(jnp.maximum(most - to_mean.sum(), 0) / squared)
        return mean + jnp.where((squared > 0) & jnp.isfinite(gamma), gamma, 0) * p

    return stateless(make_row, least_known=2, reads_own=False)
