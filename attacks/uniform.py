"""Random rows within limits."""

import jax

from byzax.attacks.base import Array, Attack, View, check, rank, stateless


def uniform(n: int, f: int, *, low: float = -1.0, high: float = 1.0) -> Attack:
    """Each Byzantine row is its own draw from a cube.

    Formula: U(low, high) at every coordinate
    Knows: nothing
    Source: He et al. 2020, "FedML" (its Byzantine attack in mode random: a whole model from U(-1, 1))

    Args:
        low: smallest value.
        high: largest value.

    Raises:
        ValueError: unless 0 <= f <= n, or for low > high.
    """
    check("uniform", n, f)
    if not low <= high:
        raise ValueError(f"uniform needs low <= high, got low={low}, high={high}")

    def forged(key: Array, view: View) -> Array:
        # f draws, not n: they are the whole cost of this attack
        draws = jax.random.uniform(key, (max(f, 1), view.rows.shape[1]), minval=low, maxval=high)
        return draws[rank(view.byzantine)]

    return stateless(forged)
