"""Equivocation (El Mhamdi et al. 2020): opposite rows for receivers of even and of odd number."""

import jax.numpy as jnp

from byzax.attacks._distances import Perturbation, build_direction
from byzax.attacks.base import Array, Attack, Finite, View, check, honest_mean, stateless
from byzax.options import checked


@checked
def equivocate(n: int, f: int, *, gamma: Finite = 1.5, perturbation: Perturbation = "std") -> Attack:
    """All Byzantine workers send one row to receivers of even number, and to those of odd number its mirror image.

    Servers or nodes that hear the same honest workers are driven apart. Where there is one server it is refused.

    Formula: mean + gamma p for a receiver of even number, mean - gamma p for one of odd number
    Knows: all honest rows

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        gamma: Length of the shift, in lengths of p.
        perturbation: The direction p: unit (-mean / |mean|), sign (-sign(mean)) or std (-deviation, ddof 0).

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        El Mhamdi, Guerraoui, Guirguis, Hoang and Rouault, PODC 2020 (ByzSGD: Byzantine workers may send servers
            different rows)
    """
    check("equivocate", n, f)
    direction = build_direction(perturbation)

    def make_row(key: Array, view: View) -> Array:
        size = jnp.where(view.receiver % 2 == 0, gamma, -gamma)
        return honest_mean(view) + size * direction(view)

    return stateless(make_row, least_known=2 if perturbation == "std" else 1, reads_own=False)._replace(
        by_receiver=True
    )
