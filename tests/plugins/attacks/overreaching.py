"""An attack of the tests that tries to rewrite honest rows as well."""

import jax.numpy as jnp

from byzax.attacks.base import Attack


def overreaching(n: int, f: int) -> Attack:
    """Every row, honest ones too, becomes 7.

    Formula: 7
    Knows: nothing

    References:
        Made for the tests
    """
    return Attack(forge=lambda key, view, state: (jnp.full_like(view.rows, 7), state))
