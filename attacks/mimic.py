"""Mimic (Karimireddy et al. 2022): all Byzantine workers copy the row of one honest worker."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Count, Label, View, check, honest_mean
from byzax.options import OptionError, checked


class MimicState(NamedTuple):
    """The memory of the attackers.

    Attributes:
        mean: `[d]`, the running mean of honest rows.
        direction: `[d]`, the direction in which honest rows differ most.
        updates: Number of updates with a known honest row so far.
        copied: The number of the worker that was copied last.
    """

    mean: Array
    direction: Array
    updates: Array
    copied: Array


@checked
def mimic(n: int, f: int, *, target: Literal["direction"] | Label = "direction", warm_up: Count = 1) -> Attack:
    """All Byzantine workers send the row of one honest worker, which then counts f + 1 times.

    No row is out of place, so that no rule can find it. Where workers hold different data, those of one count too much
    and those of others too little.

    Formula: row of worker k, k = argmax_i <x_i, z>, z = the direction in which honest rows differ most (running)
    Knows: all honest rows

    As in the authors' code, z starts as one step of power iteration from a random vector. In each of the first
    `warm_up` updates it is averaged with one more step, and the worker k is chosen by it; the worker of the last of
    these is copied to the end of the run. Where that worker has no row in an update, the known row farthest along z is
    sent. Attackers that know no honest row
    follow the protocol.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        target: "direction", or the number of the worker to copy, from 0 (in a scenario the first ones are Byzantine).
        warm_up: Number of updates in which the worker to copy is chosen anew; afterwards it is always the last one.

    Returns:
        The attack, which forges rows and has a state.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range, or a target that is no worker.

    References:
        Karimireddy, He and Jaggi, ICLR 2022, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing"
    """
    check("mimic", n, f)
    fixed = not isinstance(target, str)
    if fixed and target >= n:
        raise OptionError("target", f"must be 'direction' or one of the workers 0..{n - 1}, got {target}")

    def init(d: int) -> MimicState:
        return MimicState(jnp.zeros(d), jnp.zeros(d), jnp.asarray(0), jnp.asarray(target if fixed else -1))

    def forge(key: Array, view: View, state: MimicState) -> tuple[Array, MimicState]:
        now, seen = honest_mean(view), state.updates
        wide, anyone = view.rows.astype(now.dtype), view.known.any()
        learns = anyone & (seen < warm_up)
        old = seen / (1 + seen)
        mean = jnp.where(seen == 0, now, old * state.mean + (1 - old) * now)
        centred = jnp.where(view.known[:, None], wide - mean, 0)
        before = jnp.where(seen == 0, jax.random.normal(key, now.shape, now.dtype), state.direction)
        direction = _unit(old * state.direction + (1 - old) * _unit((centred @ before) @ centred))
        mean, direction = (
            jnp.where(learns, new, kept) for new, kept in ((mean, state.mean), (direction, state.direction))
        )
        along = jnp.where(view.known, jnp.where(view.known[:, None], wide, 0) @ direction, -jnp.inf)
        chosen = jnp.where(view.workers == state.copied, jnp.inf, along)
        place = jnp.argmax(jnp.where(view.known, chosen if fixed else jnp.where(learns, along, chosen), -jnp.inf))
        copied = state.copied if fixed else jnp.where(learns, view.workers[place], state.copied)
        row = jnp.where(anyone, view.rows[place], view.rows)
        rows = jnp.where(view.byzantine[:, None], row, view.rows)
        after = MimicState(mean, direction, seen + anyone, copied)
        return rows, jax.tree.map(lambda new, kept: new.astype(kept.dtype), after, state)

    return Attack(init=init, forge=forge, least_known=2)


def _unit(vector: Array) -> Array:
    size = jnp.linalg.norm(vector)
    return vector / jnp.where(size > 0, size, 1)
