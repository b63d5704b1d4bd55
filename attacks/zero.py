"""Free riders (Lin et al. 2019): rows of zeros."""

import jax.numpy as jnp

from byzax.attacks.base import Attack, check, stateless
from byzax.options import checked


@checked
def zero(n: int, f: int) -> Attack:
    """Byzantine workers send rows of zeros, as a worker does that has computed nothing.

    Formula: 0 at every coordinate
    Knows: nothing

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.

    References:
        Lin, Du and Liu 2019, "Free-riders in federated learning" (workers that send no update of their own)
    """
    check("zero", n, f)
    return stateless(lambda key, view: jnp.zeros_like(view.rows), reads_own=False)
