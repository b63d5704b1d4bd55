"""Honest rows, of one worker too many."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, View, check, honest_mean


class Memory(NamedTuple):
    """What the liars remember: the running `mean` `[d]` of honest rows and the direction `z` `[d]`, `updates` seen.

    `copied`: the number of the worker that was copied last.
    """

    mean: Array
    direction: Array
    updates: Array
    copied: Array


def mimic(n: int, f: int, *, target: Literal["direction"] | int = "direction", warm_up: int = 1) -> Attack:
    """All Byzantine workers send the row of one honest worker, which then counts f + 1 times.

    No row is out of place, so that no rule can find it. Where workers hold different data, those of one count too much
    and those of others too little.

    Formula: row of worker k, k = argmax_i <x_i, z>, z = the direction in which honest rows differ most (running)
    Knows: all honest rows
    Source: Karimireddy, He and Jaggi, ICLR 2022, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing"

    As in the authors' code, z starts as one step of power iteration from a random vector and is averaged over the
    updates of the warm-up, with one more step in each; in these the worker is chosen anew, and the last choice stands.
    Where that worker has no row in an update, the known row farthest along z is sent. Who knows no honest row follows
    the protocol.

    Args:
        target: "direction", or the number of the worker to copy, from 0 (in a scenario the first ones are Byzantine).
        warm_up: updates until the choice stands.

    Raises:
        ValueError: unless 0 <= f <= n, warm_up >= 1, or for a target that is no worker.
    """
    check("mimic", n, f)
    if warm_up < 1:
        raise ValueError(f"mimic needs warm_up >= 1 updates, got {warm_up}")
    if isinstance(target, str) and target != "direction":
        raise ValueError(f'mimic needs the number of a worker as its target, or "direction", got {target!r}')
    if isinstance(target, int) and not 0 <= target < n:
        raise ValueError(f"mimic copies one of the workers 0..{n - 1}, got {target}")

    def init(d: int) -> Memory:
        first = target if isinstance(target, int) else -1
        return Memory(jnp.zeros(d), jnp.zeros(d), jnp.asarray(0), jnp.asarray(first))

    def forge(key: Array, view: View, memory: Memory) -> tuple[Array, Memory]:
        now, seen = honest_mean(view), memory.updates
        wide, anyone = view.rows.astype(now.dtype), view.known.any()
        learns = anyone & (seen < warm_up)
        old = seen / (1 + seen)
        mean = jnp.where(seen == 0, now, old * memory.mean + (1 - old) * now)
        centred = jnp.where(view.known[:, None], wide - mean, 0)
        before = jnp.where(seen == 0, jax.random.normal(key, now.shape, now.dtype), memory.direction)
        direction = _unit(old * memory.direction + (1 - old) * _unit((centred @ before) @ centred))
        mean, direction = (
            jnp.where(learns, new, kept) for new, kept in ((mean, memory.mean), (direction, memory.direction))
        )
        along = jnp.where(view.known, jnp.where(view.known[:, None], wide, 0) @ direction, -jnp.inf)
        chosen = jnp.where(view.workers == memory.copied, jnp.inf, along)
        fixed = isinstance(target, int)
        place = jnp.argmax(jnp.where(view.known, chosen if fixed else jnp.where(learns, along, chosen), -jnp.inf))
        copied = memory.copied if fixed else jnp.where(learns, view.workers[place], memory.copied)
        row = jnp.where(anyone, view.rows[place], view.rows)
        rows = jnp.where(view.byzantine[:, None], row, view.rows)
        after = Memory(mean, direction, seen + anyone, copied)
        return rows, jax.tree.map(lambda new, kept: new.astype(kept.dtype), after, memory)

    return Attack(init=init, forge=forge)


def _unit(vector: Array) -> Array:
    size = jnp.linalg.norm(vector)
    return vector / jnp.where(size > 0, size, 1)
