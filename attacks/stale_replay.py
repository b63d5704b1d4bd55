"""What was true some time ago."""

from typing import Literal, NamedTuple

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, View, check, honest_mean


class Mean(NamedTuple):
    """The honest means `[age, d]` of the last updates, each at its number modulo `age`; how many `updates` so far."""

    past: Array
    updates: Array


class Own(NamedTuple):
    """What each worker computed, `past` `[n, age, d]`, at its number modulo `age`, and how often, `counts` `[n]`."""

    past: Array
    counts: Array


def stale_replay(n: int, f: int, *, what: Literal["mean", "own"] = "mean", age: int = 10) -> Attack:
    """Byzantine workers send again what was right some updates ago.

    It is a row that an honest worker could have sent, and points where the model was. `timing: replay` computes a row
    from an old model; this sends an old row.

    Formula: the honest mean, or the own row, of `age` updates before; 0 where there is none yet
    Knows: all honest rows
    Source: no paper known to us; a replay as in network protocols

    Args:
        what: "mean", the honest mean, the same for all liars, or "own", what each liar computed itself, by its own
            count. The latter takes n * age rows of memory.
        age: updates that the adversary took part in between a row and its replay.

    Raises:
        ValueError: unless 0 <= f <= n and age >= 1, or for an unknown word.
    """
    check("stale_replay", n, f)
    if what not in ("mean", "own"):
        raise ValueError(f"stale_replay knows mean and own, got {what!r}")
    if age < 1:
        raise ValueError(f"stale_replay needs age >= 1 updates, got {age}")

    def of_mean(key: Array, view: View, memory: Mean) -> tuple[Array, Mean]:
        place = memory.updates % age
        old, now = memory.past[place], honest_mean(view).astype(memory.past.dtype)
        rows = jnp.where(view.byzantine[:, None], old.astype(view.rows.dtype), view.rows)
        return rows, Mean(memory.past.at[place].set(now), memory.updates + 1)

    def of_own(key: Array, view: View, memory: Own) -> tuple[Array, Own]:
        place = memory.counts[view.workers] % age
        old = memory.past[view.workers, place]
        rows = jnp.where(view.byzantine[:, None], old.astype(view.rows.dtype), view.rows)
        # a number that no worker has writes nothing
        liars = jnp.where(view.byzantine & view.new & (view.workers >= 0), view.workers, n)
        return rows, Own(
            memory.past.at[liars, place].set(view.rows.astype(memory.past.dtype), mode="drop"),
            memory.counts.at[liars].add(1, mode="drop"),
        )

    if what == "mean":
        return Attack(init=lambda d: Mean(jnp.zeros((age, d)), jnp.asarray(0)), forge=of_mean)
    return Attack(init=lambda d: Own(jnp.zeros((n, age, d)), jnp.zeros(n, int)), forge=of_own)
