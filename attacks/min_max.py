"""As far away as the honest rows are from each other."""

from typing import Literal

import jax.numpy as jnp

from attacks._distances import honest_distances, perturbation
from attacks.base import Array, Attack, View, check, honest_mean, stateless


def min_max(n: int, f: int, *, perturbation_of: Literal["unit", "sign", "std"] = "std") -> Attack:
    """All Byzantine rows are moved against the honest mean, no farther from honest rows than these are from each other.

    Formula: mean + gamma p, the largest gamma with max_i |mean + gamma p - x_i| <= max_ij |x_i - x_j| over honest rows
    Knows: all honest rows
    Source: Shejwalkar and Houmansadr, NDSS 2021, "Manipulating the Byzantine" (AGR-agnostic, Min-Max)

    The direction p is -mean / |mean| (unit), -sign(mean) or -deviation (std, ddof 0). The bound is a quadratic in gamma
    for each honest row, so the largest gamma is the smallest of their roots: exact, where the paper's code halves steps
    until they are below 1e-5.

    Args:
        perturbation_of: the direction p; of the paper's three, std mostly harms most.

    Raises:
        ValueError: unless 0 <= f <= n, or for an unknown direction.
    """
    check("min_max", n, f)
    if perturbation_of not in ("unit", "sign", "std"):
        raise ValueError(f"min_max knows the perturbations unit, sign and std, got {perturbation_of!r}")

    def forged(key: Array, view: View) -> Array:
        mean, direction = honest_mean(view), perturbation(view, perturbation_of)
        to_mean, between = honest_distances(view)
        squared = jnp.vdot(direction, direction)
        # |gamma p + mean - x_i|² = |p|² gamma² - 2 gamma b_i + |mean - x_i|²
        b = (view.rows.astype(mean.dtype) - mean) @ direction
        root = (b + jnp.sqrt(jnp.maximum(b**2 + squared * (between.max() - to_mean), 0))) / squared
        gamma = jnp.min(jnp.where(view.byzantine, jnp.inf, root))
        return mean + jnp.where((squared > 0) & jnp.isfinite(gamma), gamma, 0) * direction

    return stateless(forged)
