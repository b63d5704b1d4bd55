"""The same number everywhere."""

import jax.numpy as jnp

from byzax.attacks.base import Attack, check, stateless


def constant(n: int, f: int, *, value: float = 100.0) -> Attack:
    """All Byzantine rows hold one number at every coordinate.

    Formula: value at every coordinate
    Knows: nothing
    Source: Li, Xu, Chen, Giannakis and Ling, AAAI 2019, "RSA" (same-value attack)

    Args:
        value: the number.

    Raises:
        ValueError: unless 0 <= f <= n.
    """
    check("constant", n, f)
    return stateless(lambda key, view: jnp.full_like(view.rows, value))
