"""Min-Max (Shejwalkar and Houmansadr 2021): rows no farther from any honest row than these are from each other."""

import jax.numpy as jnp

from byzax.attacks._distances import Perturbation, build_direction, honest_distances
from byzax.attacks.base import Array, Attack, View, check, honest_mean, stateless
from byzax.options import checked


@checked
def min_max(n: int, f: int, *, perturbation: Perturbation = "std") -> Attack:
    """All Byzantine rows are moved against the honest mean, no farther from honest rows than these are from each other.

    Formula: mean + gamma p, the largest gamma with max_i |mean + gamma p - x_i| <= max_ij |x_i - x_j| over honest rows
    Knows: all honest rows

    The direction p is -mean / |mean| (unit), -sign(mean) or -deviation (std). The bound is a quadratic in gamma
    for each honest row, so the largest gamma is the smallest of their roots: exact, where the paper's code halves steps
    until they are below 1e-5.
    Codes differ in ddof, which changes the length of p and not the row, and in whose rows they take: with unknown
    honest gradients the authors' take those of the Byzantine workers for mean, deviation and distances, which the
    scenario's `knowledge: colluding` does.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        perturbation: The direction p, one of the paper's three.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Shejwalkar and Houmansadr, NDSS 2021, "Manipulating the Byzantine" (AGR-agnostic, Min-Max)
    """
    check("min_max", n, f)
    direction = build_direction(perturbation)

    def make_row(key: Array, view: View) -> Array:
        mean, p = honest_mean(view), direction(view)
        to_mean, between = honest_distances(view)
        squared = jnp.vdot(p, p)
        # |gamma p + mean - x_i|² = |p|² gamma² - 2 gamma b_i + |mean - x_i|²
        b = (view.rows.astype(mean.dtype) - mean) @ p
        root = (b + jnp.sqrt(jnp.maximum(b**2 + squared * (between.max() - to_mean), 0))) / squared
        gamma = jnp.min(jnp.where(view.known, root, jnp.inf))
        return mean + jnp.where((squared > 0) & jnp.isfinite(gamma), gamma, 0) * p

    return stateless(make_row, least_known=2, reads_own=False)
