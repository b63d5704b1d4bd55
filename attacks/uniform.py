"""Uniform noise (He et al. 2020, FedML): random rows within limits."""

import jax

from byzax.attacks.base import Array, Attack, Finite, View, check, rank, stateless
from byzax.options import OptionError, checked


@checked
def uniform(n: int, f: int, *, low: Finite = -1.0, high: Finite = 1.0) -> Attack:
    """Each Byzantine row is its own draw from a cube.

    Formula: U(low, high) at every coordinate
    Knows: nothing

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        low: Smallest value.
        high: Largest value.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range, or low > high.

    References:
        He et al. 2020, "FedML" (its Byzantine attack in mode random: a whole model from U(-1, 1))
    """
    check("uniform", n, f)
    if low > high:
        raise OptionError("low", f"must be at most high = {high}, got {low}")

    def make_rows(key: Array, view: View) -> Array:
        # f draws, not n: they are the whole cost of this attack
        draws = jax.random.uniform(key, (max(f, 1), view.rows.shape[1]), minval=low, maxval=high)
        return draws[rank(view.byzantine)]

    return stateless(make_rows, reads_own=False)
