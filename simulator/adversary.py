"""The adversary of a run: all its attacks, each with its Byzantine workers, its knowledge and its updates."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.attacks import Batch, Goal, View
from byzax.simulator.attackers import AttackerFunctions, Attackers, ForgeInputs, forge_rows, init_attack, is_attacker
from byzax.simulator.compilation import compiled_once
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
        has_unread_rows: Finds the workers whose rows are forged without reading what they computed. None are found
            where one attack reads the rows of its own workers: it may read those of others as well.
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
    has_unread_rows: IsAmong
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
def build_adversary(parts: tuple[Attackers, ...]) -> Adversary:
    """Builds the adversary that carries out several attacks, each by its own workers.

    Args:
        parts: The attacks.

    Returns:
        The adversary.
    """
    forging = [part for part in parts if part.attack.forge is not None and part.end > part.first]

    def init(d: int) -> State:
        return tuple(init_attack(part, d) for part in forging)

    def forge(
        key: Array, view: View, ranks: Array, own: Array, functions: AttackerFunctions, states: State
    ) -> tuple[Array, State]:
        inputs, rows, after = ForgeInputs(view, ranks, own, functions), view.rows, []
        for number, (part, state) in enumerate(zip(forging, states, strict=True)):
            is_mine = is_attacker(part, ranks)
            part_key = key if len(forging) == 1 else jax.random.fold_in(key, number)

            def carry_out(
                state: State, part: Attackers = part, is_mine: Array = is_mine, part_key: Array = part_key
            ) -> tuple[Array, State]:
                return forge_rows(part, part_key, inputs, is_mine, state)

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
            is_mine = is_attacker(part, rank, handed)
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
            is_mine = is_attacker(part, ranks, step)
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
        has_unread_rows=_build_is_among([] if any(map(_reads_own, forging)) else forging),
        byzantine_in_training=_build_is_among(poisoning),
        # an attack that changes nothing has Byzantine workers too
        byzantine_in_sending=_build_is_among(
            [part for part in parts if part.attack.corrupt is None or part.attack.forge is not None]
        ),
    )


def _reads_own(part: Attackers) -> bool:
    # who is not active sends what was computed
    return part.attack.reads_own or part.knowledge != "omniscient" or part.active is not None


def _build_is_among(parts: list[Attackers]) -> IsAmong:
    def is_among(ranks: Array) -> Array:
        among = jnp.zeros(ranks.shape, bool)
        for part in parts:
            among |= is_attacker(part, ranks)
        return among

    return is_among
