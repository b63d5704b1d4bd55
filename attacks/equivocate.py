"""One thing to one server, the opposite to the next."""

from typing import Literal

import jax.numpy as jnp

from byzax.attacks._distances import direction
from byzax.attacks.base import Array, Attack, View, check, honest_mean, stateless


def equivocate(n: int, f: int, *, gamma: float = 1.5, perturbation: Literal["unit", "sign", "std"] = "std") -> Attack:
    """All Byzantine workers tell servers of even number one thing and those of odd number the opposite.

    Servers that answer the same honest workers are driven apart. Where there is one server, its number is 0.

    Formula: mean + gamma p for a receiver of even number, mean - gamma p for one of odd number
    Knows: all honest rows
    Source: El Mhamdi, Guerraoui, Guirguis, Hoang and Rouault, PODC 2020 (ByzSGD: liars may tell servers different rows)

    Args:
        gamma: size of the lie.
        perturbation: the direction p: unit (-mean / |mean|), sign (-sign(mean)) or std (-deviation, ddof 0).

    Raises:
        ValueError: unless 0 <= f <= n, or for an unknown direction.
    """
    check("equivocate", n, f)
    against = direction("equivocate", perturbation)

    def forged(key: Array, view: View) -> Array:
        side = jnp.where(view.receiver % 2 == 0, gamma, -gamma)
        return honest_mean(view) + side * against(view)

    return stateless(forged)
