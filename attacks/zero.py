"""Rows of zeros."""

import jax.numpy as jnp

from byzax.attacks.base import Attack, check, stateless


def zero(n: int, f: int) -> Attack:
    """Byzantine workers send rows of zeros, as one does that has computed nothing.

    Formula: 0 at every coordinate
    Knows: nothing
    Source: Lin, Du and Liu 2019, "Free-riders in federated learning" (workers that send no update of their own)

    Raises:
        ValueError: unless 0 <= f <= n.
    """
    check("zero", n, f)
    return stateless(lambda key, view: jnp.zeros_like(view.rows))
