"""The adversary of a run: all its attacks, each with its Byzantine workers, its knowledge and its updates."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.attacks import Attack, Batch, Goal, View
from byzax.attacks.base import AskRule, ModelLoss
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.attack import AttackShare, Knowledge
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.world import World

Array = jax.Array
State = Any


class ByzantineRanks(Protocol):
    """Numbers the Byzantine workers of an update."""

    def __call__(self, world: World, step: Array, /) -> Array:
        """The number of each worker among the Byzantine ones.

        Args:
            world: Arrays of the run.
            step: The update.

        Returns:
            `[n]`, 0..f-1 for the Byzantine workers of the update, -1 for the honest.
        """
        ...


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


class InitAdversary(Protocol):
    """Makes the state of an adversary."""

    def __call__(self, d: int, /) -> State:
        """The state before the first update, for rows of `d` coordinates."""
        ...


class ForgeRows(Protocol):
    """Makes the rows of all Byzantine workers."""

    def __call__(
        self, key: Array, view: View, ranks: Array, own: Array, functions: AttackerFunctions, state: State, /
    ) -> tuple[Array, State]:
        """The rows after all attacks.

        Args:
            key: Key of the update.
            view: The view of an omniscient adversary, of m rows.
            ranks: `[m]`, the number of each row's worker among the Byzantine ones, -1 for the others.
            own: `[m, d]`, the rows as the Byzantine workers computed them.
            functions: The functions of the view that differ between attackers.
            state: State of the adversary.

        Returns:
            The rows `[m, d]`, and the state after the update.
        """
        ...


class CorruptBatch(Protocol):
    """Poisons the data of all Byzantine workers."""

    def __call__(self, key: Array, batch: Batch, rank: Array, handed: Array, /) -> Batch:
        """The batch that a worker trains on.

        Args:
            key: Key of the job.
            batch: The worker's batch.
            rank: The worker's number among the Byzantine ones, -1 for an honest worker.
            handed: The version of the model that the worker was handed.

        Returns:
            The batch, as it is where no attack changes it.
        """
        ...


class ClaimSamples(Protocol):
    """States how many samples workers hold."""

    def __call__(self, samples: Array, ranks: Array, step: Array, /) -> Array:
        """The numbers of samples that workers claim to hold.

        Args:
            samples: `[m]`, the numbers that they hold.
            ranks: `[m]`, the number of each worker among the Byzantine ones, -1 for an honest worker.
            step: The update.

        Returns:
            `[m]`, the numbers claimed.
        """
        ...


class IsAmong(Protocol):
    """Finds the Byzantine workers that belong to some of the attacks."""

    def __call__(self, ranks: Array, /) -> Array:
        """The workers that belong to them, as truth values.

        Args:
            ranks: Numbers among the Byzantine workers, -1 for honest ones, any shape.

        Returns:
            Truth values of the same shape.
        """
        ...


class Adversary(NamedTuple):
    """All attacks of a run as one. `forge`, `corrupt`, `goal` and `claim` are None where no attack has them.

    Attributes:
        init: Makes the state before the first update.
        forge: Makes the rows that the Byzantine workers send.
        corrupt: Poisons the batch that a Byzantine worker trains on.
        goal: The aim of the first backdoor.
        claim: States how many samples workers hold, truly or not.
        has_hidden_rows: Whether some attack does not read all rows.
        byzantine_in_training: Finds the workers whose data is poisoned: their rows count as Byzantine by the version of
            the model that they were handed.
        byzantine_in_sending: Finds the workers whose rows are forged: these count as Byzantine by the update that they
            arrive for. Workers whose attack changes nothing belong to them too.
    """

    init: InitAdversary
    forge: ForgeRows | None
    corrupt: CorruptBatch | None
    goal: Goal | None
    claim: ClaimSamples | None
    has_hidden_rows: bool
    byzantine_in_training: IsAmong
    byzantine_in_sending: IsAmong


@compiled_once
def build_byzantine_ranks(sampled: int | None) -> ByzantineRanks:
    """Builds the numbering of the Byzantine workers.

    Args:
        sampled: Number of Byzantine workers that are drawn anew for every update; None where they are always the same.

    Returns:
        The function that numbers the Byzantine workers of an update.
    """

    def drawn(world: World, step: Array) -> Array:
        n = len(world.sizes)
        order = jax.random.permutation(derive(world.byzantine_key, Purpose.BYZANTINE, step), n)
        return jnp.full(n, -1, jnp.int32).at[order[:sampled]].set(jnp.arange(sampled, dtype=jnp.int32))

    return (lambda world, step: world.byzantine_rank) if sampled is None else drawn


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


@compiled_once
def build_adversary(parts: tuple[Attackers, ...]) -> Adversary:
    """Builds the adversary that carries out several attacks, each by its own workers.

    Args:
        parts: The attacks.

    Returns:
        The adversary.
    """
    forging = [part for part in parts if part.attack.forge is not None and part.end > part.first]

    def init(d: int) -> State:
        return tuple(_init_state(part, d) for part in forging)

    def forge(
        key: Array, view: View, ranks: Array, own: Array, functions: AttackerFunctions, states: State
    ) -> tuple[Array, State]:
        rows, after = view.rows, []
        for number, (part, state) in enumerate(zip(forging, states, strict=True)):
            is_mine = (ranks >= part.first) & (ranks < part.end)
            part_key = key if len(forging) == 1 else jax.random.fold_in(key, number)

            def carry_out(
                state: State, part: Attackers = part, is_mine: Array = is_mine, part_key: Array = part_key
            ) -> tuple[Array, State]:
                forge_part = _FORGE_BY_KNOWLEDGE[part.knowledge]
                return forge_part(part, part_key, view, is_mine, ranks, own, functions, state)

            if part.active is None:
                forged, state = carry_out(state)
            else:
                forged, state = jax.lax.cond(part.active(view.step), carry_out, lambda state: (view.rows, state), state)
            rows = jnp.where(is_mine[:, None], forged, rows)
            after.append(state)
        return rows, tuple(after)

    poisoning = [part for part in parts if part.attack.corrupt is not None]

    def corrupt(key: Array, batch: Batch, rank: Array, handed: Array) -> Batch:
        changed = batch
        for part in poisoning:
            is_mine = (rank >= part.first) & (rank < part.end)
            if part.active is not None:
                is_mine &= part.active(handed)
            assert part.attack.corrupt is not None
            poisoned = part.attack.corrupt(key, batch._replace(rank=rank - part.first))
            changed = changed._replace(
                x=jnp.where(is_mine, poisoned.x.astype(batch.x.dtype), changed.x),
                y=jnp.where(is_mine, poisoned.y.astype(batch.y.dtype), changed.y),
            )
        return changed

    claiming = [part for part in parts if part.attack.claim is not None]

    def claim(samples: Array, ranks: Array, step: Array) -> Array:
        claimed = samples
        for part in claiming:
            is_mine = (ranks >= part.first) & (ranks < part.end)
            if part.active is not None:
                is_mine &= part.active(step)
            assert part.attack.claim is not None
            claimed = jnp.where(is_mine, part.attack.claim(samples), claimed)
        return claimed

    goals = [part.attack.goal for part in parts if part.attack.goal is not None]
    return Adversary(
        init=init,
        forge=forge if forging else None,
        corrupt=corrupt if poisoning else None,
        goal=goals[0] if goals else None,
        claim=claim if claiming else None,
        has_hidden_rows=any(part.knowledge != "omniscient" for part in forging),
        byzantine_in_training=_build_is_among(poisoning),
        # an attack that changes nothing has Byzantine workers too
        byzantine_in_sending=_build_is_among(
            [part for part in parts if part.attack.corrupt is None or part.attack.forge is not None]
        ),
    )


def _build_is_among(parts: list[Attackers]) -> IsAmong:
    def is_among(ranks: Array) -> Array:
        among = jnp.zeros(ranks.shape, bool)
        for part in parts:
            among |= (ranks >= part.first) & (ranks < part.end)
        return among

    return is_among


def _init_state(part: Attackers, d: int) -> State:
    state = part.attack.init(d)
    if part.knowledge != "own":
        return state
    # one state for each of its workers
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (part.end - part.first, *jnp.shape(leaf))), state)


def _forge_omniscient(
    part: Attackers,
    key: Array,
    view: View,
    is_mine: Array,
    ranks: Array,
    own: Array,
    functions: AttackerFunctions,
    state: State,
) -> tuple[Array, State]:
    """Forges from all rows."""
    assert part.attack.forge is not None
    of_others = (ranks >= 0) & ~is_mine
    return part.attack.forge(key, view._replace(byzantine=view.byzantine & ~of_others), state)


def _forge_colluding(
    part: Attackers,
    key: Array,
    view: View,
    is_mine: Array,
    ranks: Array,
    own: Array,
    functions: AttackerFunctions,
    state: State,
) -> tuple[Array, State]:
    """Forges from the rows of the attack's own workers, which stand in turn for the rows of all others."""
    assert part.attack.forge is not None
    places = jnp.nonzero(is_mine, size=len(is_mine))[0]
    stand_in = places[jnp.arange(len(is_mine)) % jnp.maximum(is_mine.sum(), 1)]
    rows = jnp.where(is_mine[:, None], own, own[stand_in])
    rows = jnp.where(is_mine.any(), rows, jnp.zeros_like(rows))
    # the server keeps the rows that its Byzantine workers sent, not those that they computed
    sent = jnp.where(is_mine[:, None], view.rows, rows)
    limited = {"ask_rule": functions.build_ask_rule(sent), "loss": functions.build_loss(part.first, part.end)}
    limited_view = view._replace(rows=rows, byzantine=is_mine, known=is_mine, new=view.new & is_mine, **limited)
    forged, after = part.attack.forge(key, limited_view, state)
    # an update without its workers leaves the state as it is
    return forged, jax.tree.map(lambda new, old: jnp.where(is_mine.any(), new, old), after, state)


def _forge_own(
    part: Attackers,
    key: Array,
    view: View,
    is_mine: Array,
    ranks: Array,
    own: Array,
    functions: AttackerFunctions,
    states: State,
) -> tuple[Array, State]:
    """Forges the row of each of the attack's workers from that row alone, with a state for each worker."""
    assert part.attack.forge is not None
    forge = part.attack.forge

    def forge_one(worker: tuple[Array, State]) -> tuple[Array, State]:
        rank, state = worker
        is_worker = ranks == rank
        place = jnp.argmax(is_worker)
        rows = jnp.broadcast_to(jnp.where(is_worker.any(), own[place], 0), own.shape)
        limited = {"ask_rule": functions.build_ask_rule(rows), "loss": functions.build_loss(rank, rank + 1)}
        limited_view = view._replace(
            rows=rows, byzantine=is_worker, known=is_worker, new=view.new & is_worker, **limited
        )
        forged, after = forge(jax.random.fold_in(key, rank), limited_view, state)
        # an update without the worker leaves its state as it is
        return forged[place], jax.tree.map(lambda new, old: jnp.where(is_worker.any(), new, old), after, state)

    forged, states = jax.lax.map(forge_one, (jnp.arange(part.first, part.end), states))
    return forged[jnp.clip(ranks - part.first, 0, part.end - part.first - 1)], states


_FORGE_BY_KNOWLEDGE: dict[Knowledge, Callable[..., tuple[Array, State]]] = {
    "omniscient": _forge_omniscient,
    "colluding": _forge_colluding,
    "own": _forge_own,
}
