"""Model replacement."""

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, View, check, stateless


def scaled(n: int, f: int, *, boost: float | None = None) -> Attack:
    """Byzantine workers follow the protocol and send more of it, so that of an average only theirs is left.

    By itself it is too large a step in a right direction; together with poisoned data it puts the poisoned model in the
    place of the shared one.

    Formula: boost * own row; by default boost = n / (f eta): the model that an average leads to is the mean of theirs
    Knows: own row
    Source: Bagdasaryan et al., AISTATS 2020, "How to backdoor federated learning" (model replacement)

    n and f are the numbers of rows in the update and of Byzantine ones among them, where rows weigh by samples the sums
    of these; eta is the rate of the server where rows are changes of the model (`local`) and it takes plain SGD steps,
    else 1. With momentum or another optimizer at the server no one factor puts a model in the place of the shared one.

    Args:
        boost: factor; None takes n / (f eta).

    Raises:
        ValueError: unless 0 <= f <= n.
    """
    check("scaled", n, f)

    def forged(key: Array, view: View) -> Array:
        if boost is not None:
            return boost * view.rows
        counts = jnp.broadcast_to(view.counts, view.byzantine.shape)
        rows = jnp.where(view.workers >= 0, counts, 0).sum()
        theirs = jnp.where(view.byzantine, counts, 0).sum()
        return rows / jnp.where(theirs > 0, theirs, 1) / view.rate * view.rows

    return stateless(forged)
