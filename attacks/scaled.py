"""Model replacement (Bagdasaryan et al. 2020): the own row, scaled to outweigh all others in an average."""

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Finite, View, check, stateless
from byzax.options import checked


@checked
def scaled(n: int, f: int, *, boost: Finite | None = None) -> Attack:
    """Byzantine workers follow the protocol and scale their rows, so that of an average only theirs are left.

    By itself it is too large a step in a right direction; together with poisoned data it puts the poisoned model in the
    place of the shared one.

    Formula: boost * own row; by default boost = n / (f eta): the model that an average leads to is the mean of theirs
    Knows: own row

    n and f are the numbers of rows in the update and of Byzantine ones among them, where rows weigh by samples the sums
    of these; eta is the rate of the server where rows are changes of the model (`local`) and it takes plain SGD steps,
    else 1. With momentum or another optimizer at the server no one factor puts a model in the place of the shared one.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        boost: Factor. None: n / (f eta).

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Bagdasaryan et al., AISTATS 2020, "How to backdoor federated learning" (model replacement)
    """
    check("scaled", n, f)

    def make_rows(key: Array, view: View) -> Array:
        if boost is not None:
            return boost * view.rows
        counts = jnp.broadcast_to(view.counts, view.byzantine.shape)
        all_rows = jnp.where(view.workers >= 0, counts, 0).sum()
        byzantine_rows = jnp.where(view.byzantine, counts, 0).sum()
        return all_rows / jnp.where(byzantine_rows > 0, byzantine_rows, 1) / view.rate * view.rows

    return stateless(make_rows)
