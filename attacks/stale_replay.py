"""Replay: Byzantine workers send again what was right some updates ago."""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Count, View, check, honest_mean
from byzax.options import checked


class MeanHistory(NamedTuple):
    """The honest means of the last updates.

    Attributes:
        past: `[age, d]`, each mean at the number of its update modulo `age`.
        updates: Number of updates so far.
    """

    past: Array
    updates: Array


class RowHistory(NamedTuple):
    """The rows that each worker computed.

    Attributes:
        past: `[n, age, d]`, each row at its number, by the worker's own count, modulo `age`.
        counts: `[n]`, how many rows each worker computed so far.
    """

    past: Array
    counts: Array


@checked
def stale_replay(n: int, f: int, *, what: Literal["mean", "own"] = "mean", age: Count = 10) -> Attack:
    """Byzantine workers send again what was right some updates ago.

    It is a row that an honest worker could have sent, and points where the model was. `timing: replay` computes a row
    from an old model; this sends an old row.

    Formula: the honest mean, or the own row, of `age` updates before; 0 where there is none yet
    Knows: all honest rows

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        what: "mean", the honest mean, the same for all Byzantine workers, or "own", what each of them computed itself,
            by its own count. The latter takes n * age rows of memory.
        age: Updates that the adversary took part in between a row and its replay.

    Returns:
        The attack, which forges rows and has a state.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        No paper known to us; a replay as in network protocols
    """
    check("stale_replay", n, f)

    def replay_mean(key: Array, view: View, history: MeanHistory) -> tuple[Array, MeanHistory]:
        place = history.updates % age
        old, now = history.past[place], honest_mean(view).astype(history.past.dtype)
        rows = jnp.where(view.byzantine[:, None], old.astype(view.rows.dtype), view.rows)
        return rows, MeanHistory(history.past.at[place].set(now), history.updates + 1)

    def replay_own(key: Array, view: View, history: RowHistory) -> tuple[Array, RowHistory]:
        place = history.counts[view.workers] % age
        old = history.past[view.workers, place]
        rows = jnp.where(view.byzantine[:, None], old.astype(view.rows.dtype), view.rows)
        # a number that no worker has writes nothing
        writers = jnp.where(view.byzantine & view.new & (view.workers >= 0), view.workers, n)
        return rows, RowHistory(
            history.past.at[writers, place].set(view.rows.astype(history.past.dtype), mode="drop"),
            history.counts.at[writers].add(1, mode="drop"),
        )

    if what == "mean":
        return Attack(
            init=lambda d: MeanHistory(jnp.zeros((age, d)), jnp.asarray(0)), forge=replay_mean, reads_own=False
        )
    return Attack(lambda d: RowHistory(jnp.zeros((n, age, d)), jnp.zeros(n, int)), replay_own)
