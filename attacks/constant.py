"""Same-value attack (Li et al. 2019): one number at every coordinate."""

import jax.numpy as jnp

from byzax.attacks.base import Attack, Finite, check, stateless
from byzax.options import checked


@checked
def constant(n: int, f: int, *, value: Finite = 100.0) -> Attack:
    """All Byzantine rows hold one number at every coordinate.

    Formula: value at every coordinate
    Knows: nothing

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        value: The number.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Li, Xu, Chen, Giannakis and Ling, AAAI 2019, "RSA" (same-value attack)
    """
    check("constant", n, f)
    return stateless(lambda key, view: jnp.full_like(view.rows, value), reads_own=False)
