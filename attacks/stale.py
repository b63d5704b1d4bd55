"""Stale models: an old model in place of the present one."""

from typing import NamedTuple

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Count, View, check, honest_mean
from byzax.options import checked


class ModelHistory(NamedTuple):
    """The models of the last updates.

    Attributes:
        past: `[age, d]`, the mean of the honest models of each update at its number modulo `age`.
        updates: Number of updates so far.
    """

    past: Array
    updates: Array


@checked
def stale(n: int, f: int, *, age: Count = 10) -> Attack:
    """Byzantine senders send the honest mean model of some updates before.

    It was right once. Rows are ways from the receiver's model, so that the row is that model less the old one: it is
    meant for Byzantine servers (`topology.server_attack`) and nodes that send models. `stale_replay` sends an old row.

    Formula: w - v, w the receiver's model, v the mean of the honest models `age` updates before; 0 where there is none
    Knows: all honest rows

    Args:
        n: Number of senders.
        f: Number of Byzantine ones among them.
        age: Updates between a model and its replay.

    Returns:
        The attack, which forges rows and has a state.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        No paper known to us; a replay as in network protocols
    """
    check("stale", n, f)

    def forge(key: Array, view: View, history: ModelHistory) -> tuple[Array, ModelHistory]:
        place = history.updates % age
        there = history.updates >= age
        old = jnp.where(there, view.params - history.past[place].astype(view.params.dtype), 0)
        now = view.params - honest_mean(view).astype(view.params.dtype)
        rows = jnp.where(view.byzantine[:, None], old.astype(view.rows.dtype), view.rows)
        past = history.past.at[place].set(now.astype(history.past.dtype))
        return rows, ModelHistory(past, history.updates + 1)

    return Attack(init=lambda d: ModelHistory(jnp.zeros((age, d)), jnp.asarray(0)), forge=forge, reads_own=False)
