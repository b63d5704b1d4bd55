"""Attackers: an attack, the Byzantine workers that carry it out, and what these forge from the rows that they know."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.attacks import Attack, View
from byzax.attacks.base import AskRule, ModelLoss
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.attack import AttackShare, Knowledge

Array = jax.Array
State = Any


class IsActive(Protocol):
    """Decides in which updates an attack is carried out."""

    def __call__(self, step: Array, /) -> Array:
        """A truth value: whether the attack is carried out in update `step`."""
        ...


class Attackers(NamedTuple):
    """An attack and the Byzantine workers that carry it out.

    Attributes:
        attack: The attack.
        first: The first of these workers, as a number among the Byzantine ones.
        end: The number after the last of them.
        knowledge: The rows that the attack may read.
        active: Decides in which updates it is carried out; None for all.
    """

    attack: Attack
    first: int
    end: int
    knowledge: Knowledge
    active: IsActive | None


class BuildAskRule(Protocol):
    """Builds the `ask_rule` of a view."""

    def __call__(self, known: Array, /) -> AskRule:
        """A function that asks the rule.

        Args:
            known: `[m, d]`, the rows in place of those that the attackers may not change.

        Returns:
            The function.
        """
        ...


class BuildLoss(Protocol):
    """Builds the `loss` of a view."""

    def __call__(self, first: Any, end: Any, /) -> ModelLoss:
        """A function that measures a model on samples of the Byzantine workers number `first` to `end` - 1."""
        ...


class AttackerFunctions(NamedTuple):
    """The functions of a `View` that differ between attackers.

    Attributes:
        build_ask_rule: Builds the view's `ask_rule`.
        build_loss: Builds the view's `loss`.
    """

    build_ask_rule: BuildAskRule
    build_loss: BuildLoss


class ForgeInputs(NamedTuple):
    """The inputs of an update that all attacks share.

    Attributes:
        view: The view of an omniscient adversary, of m rows.
        ranks: `[m]`, the number of each row's worker among the Byzantine ones, -1 for the others.
        own: `[m, d]`, the rows as the Byzantine workers computed them.
        functions: The functions of the view that differ between attackers.
    """

    view: View
    ranks: Array
    own: Array
    functions: AttackerFunctions


@compiled_once
def build_is_active(part: AttackShare) -> IsActive | None:
    """Builds the decision in which updates an attack is carried out, from its `from`, `until` and `every`.

    Args:
        part: The attack in a scenario.

    Returns:
        The decision; None where the attack is carried out in every update.
    """
    begin, until, every = getattr(part, "from"), part.until, part.every
    if (begin, until, every) == (0, None, 1):
        return None

    def active(now: Array) -> Array:
        started = (now >= begin) & ((now - begin) % every == 0)
        return started if until is None else started & (now < until)

    return active


def is_attacker(part: Attackers, ranks: Array, step: Array | None = None) -> Array:
    """The workers that carry out an attack.

    Args:
        part: The attack.
        ranks: Numbers among the Byzantine workers, -1 for honest ones, any shape.
        step: The update in which they carry it out; None for any.

    Returns:
        Truth values of the same shape.
    """
    is_mine = (ranks >= part.first) & (ranks < part.end)
    return is_mine if step is None or part.active is None else is_mine & part.active(step)


def init_attack(part: Attackers, d: int) -> State:
    """The state of an attack before the first update.

    Args:
        part: The attack.
        d: Number of parameters.

    Returns:
        The state; where each worker knows its own row alone one for each of them.
    """
    state = part.attack.init(d)
    if part.knowledge != "own":
        return state
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (part.end - part.first, *jnp.shape(leaf))), state)


def _forge_omniscient(
    part: Attackers, key: Array, inputs: ForgeInputs, is_mine: Array, state: State
) -> tuple[Array, State]:
    """Forges from all rows."""
    assert part.attack.forge is not None
    of_others = (inputs.ranks >= 0) & ~is_mine
    return part.attack.forge(key, inputs.view._replace(byzantine=inputs.view.byzantine & ~of_others), state)


def _forge_colluding(
    part: Attackers, key: Array, inputs: ForgeInputs, is_mine: Array, state: State
) -> tuple[Array, State]:
    """Forges from the rows of the attack's own workers, which stand in turn for the rows of all others."""
    own = inputs.own
    places = jnp.nonzero(is_mine, size=len(is_mine))[0]
    stand_in = places[jnp.arange(len(is_mine)) % jnp.maximum(is_mine.sum(), 1)]
    rows = jnp.where(is_mine[:, None], own, own[stand_in])
    rows = jnp.where(is_mine.any(), rows, jnp.zeros_like(rows))
    # the server keeps the rows that its Byzantine workers sent, not those that they computed
    sent = jnp.where(is_mine[:, None], inputs.view.rows, rows)
    loss = inputs.functions.build_loss(part.first, part.end)
    return _forge_limited(part, key, inputs, is_mine, rows, sent, loss, state)


def _forge_own(part: Attackers, key: Array, inputs: ForgeInputs, is_mine: Array, states: State) -> tuple[Array, State]:
    """Forges the row of each of the attack's workers from that row alone, with a state for each worker."""
    own, ranks = inputs.own, inputs.ranks

    def forge_one(worker: tuple[Array, State]) -> tuple[Array, State]:
        rank, state = worker
        is_worker = ranks == rank
        place = jnp.argmax(is_worker)
        rows = jnp.broadcast_to(jnp.where(is_worker.any(), own[place], 0), own.shape)
        loss = inputs.functions.build_loss(rank, rank + 1)
        forged, after = _forge_limited(part, jax.random.fold_in(key, rank), inputs, is_worker, rows, rows, loss, state)
        return forged[place], after

    forged, states = jax.lax.map(forge_one, (jnp.arange(part.first, part.end), states))
    return forged[jnp.clip(ranks - part.first, 0, part.end - part.first - 1)], states


def _forge_limited(
    part: Attackers,
    key: Array,
    inputs: ForgeInputs,
    known: Array,
    rows: Array,
    sent: Array,
    loss: ModelLoss,
    state: State,
) -> tuple[Array, State]:
    """Forges from the rows of some of the attack's workers.

    Args:
        part: The attack.
        key: Key of the attack.
        inputs: The inputs of the update.
        known: `[m]`, true for the rows of these workers.
        rows: `[m, d]`, their rows as computed, which stand for those of all others too.
        sent: `[m, d]`, the rows that the view's `ask_rule` has in place of those that are tried.
        loss: The view's `loss`.
        state: State of the attack.

    Returns:
        The rows `[m, d]`, and the state after the update; an update without these workers leaves it as it is.
    """
    assert part.attack.forge is not None
    view = inputs.view._replace(
        rows=rows,
        byzantine=known,
        known=known,
        new=inputs.view.new & known,
        ask_rule=inputs.functions.build_ask_rule(sent),
        loss=loss,
    )
    forged, after = part.attack.forge(key, view, state)
    return forged, jax.tree.map(lambda new, old: jnp.where(known.any(), new, old), after, state)


_FORGE_BY_KNOWLEDGE: dict[Knowledge, Callable[..., tuple[Array, State]]] = {
    "omniscient": _forge_omniscient,
    "colluding": _forge_colluding,
    "own": _forge_own,
}


def forge_rows(part: Attackers, key: Array, inputs: ForgeInputs, is_mine: Array, state: State) -> tuple[Array, State]:
    """Forges the rows of an attack from what its workers know.

    Args:
        part: The attack.
        key: Key of the attack in this update.
        inputs: The inputs of the update.
        is_mine: `[m]`, true for the rows of its workers.
        state: State of the attack.

    Returns:
        The rows `[m, d]`, of which those of its workers count, and the state after the update.
    """
    return _FORGE_BY_KNOWLEDGE[part.knowledge](part, key, inputs, is_mine, state)
