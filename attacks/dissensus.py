"""Dissensus (He, Karimireddy, Jaggi 2022): rows that undo, at each receiver, what its honest neighbours agree on."""

import jax
import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, NotNegative, View, check, stateless
from byzax.options import checked


@checked
def dissensus(n: int, f: int, *, epsilon: NotNegative = 1.5) -> Attack:
    """Each receiver is pushed away from its honest neighbours, in place of being drawn to them by the average.

    With epsilon 1 the weighted average at a receiver is its own model, so that nobody comes nearer to anybody;
    above 1 models of neighbours move apart. Where there is one server it is refused; one of several, which sends no
    row, is pushed away from the model that it has.

    Formula: x_i - epsilon * (sum over honest j of W_ij (x_j - x_i)) / (sum over Byzantine j of W_ij), at receiver i
    Knows: all honest rows

    W are the weights of the edges where the receiver mixes by these, and equal ones else.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        epsilon: Strength.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        He, Karimireddy and Jaggi 2022, "Byzantine-Robust Decentralized Learning via ClippedGossip"
    """
    check("dissensus", n, f)

    def make_row(key: Array, view: View) -> Array:
        rows = view.rows.astype(jnp.promote_types(view.rows.dtype, jnp.float32))
        own, weights = (jnp.broadcast_to(each, view.byzantine.shape) for each in (view.own, view.counts))
        receiver = jnp.where(own[:, None], rows, 0).sum(axis=0)
        # a mask, not a product with 0: what Byzantine workers computed may be NaN or infinite
        ways = jnp.where(view.known[:, None], rows - receiver, 0)
        pull = jnp.matmul(weights.astype(rows.dtype), ways, precision=jax.lax.Precision.HIGHEST)
        mine = jnp.where(view.byzantine, weights, 0).sum()
        return receiver - epsilon * pull / jnp.where(mine > 0, mine, 1)

    return stateless(make_row, reads_own=False)._replace(by_receiver=True)
