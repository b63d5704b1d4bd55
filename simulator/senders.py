"""The senders of the rows of an update: who of them is Byzantine, and how many samples each claims to hold."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.simulator.adversary import Adversary, ByzantineRanks
from byzax.simulator.compilation import compiled_once
from byzax.simulator.world import World

Array = jax.Array


class Arrivals(NamedTuple):
    """The senders of the r rows that arrive for one update.

    Attributes:
        workers: `[r]`, the worker of each row; -1 where no row is, to fill up an update.
        versions: `[r]`, the version of the model that each worker was handed.
        gone: `[n]`, the workers whose row has left the table; None for no worker.
        receiver: The node that the rows go to; None for the only server.
    """

    workers: Any
    versions: Any
    gone: Any = None
    receiver: Any = None


class IsByzantine(Protocol):
    """Finds the Byzantine rows of an update."""

    def __call__(self, world: World, step: Array, arrived: Arrivals, /) -> Array:
        """The rows that count as Byzantine.

        Args:
            world: Arrays of the run.
            step: The update.
            arrived: The senders of the r rows.

        Returns:
            `[r]`, truth values.
        """
        ...


@compiled_once
def build_is_byzantine(adversary: Adversary, ranks: ByzantineRanks, changing: bool) -> IsByzantine:
    """Builds the test whether rows are Byzantine.

    A row is Byzantine where its worker is in the update that the row arrives for, or had poisoned data when it trained,
    which counts for the update whose model it was handed.

    Args:
        adversary: The adversary.
        ranks: Numbers the Byzantine workers.
        changing: Whether the Byzantine workers are drawn for every update.

    Returns:
        The function that finds the Byzantine rows.
    """

    def is_byzantine(world: World, step: Array, arrived: Arrivals) -> Array:
        workers, there = arrived.workers, arrived.workers >= 0
        now = ranks(world, step)[workers]
        if not changing:
            return there & (now >= 0)
        handed = jnp.where(there, arrived.versions, step)

        def of_version(version: Array, found: Array) -> Array:
            return found | ((handed == version) & adversary.byzantine_in_training(ranks(world, version)[workers]))

        # Byzantine workers are drawn for all workers at once: once for each version, of which there are few
        poisoned = jax.lax.fori_loop(handed.min(), handed.max() + 1, of_version, jnp.zeros(handed.shape, bool))
        return there & (adversary.byzantine_in_sending(now) | poisoned)

    return is_byzantine


class CountSamples(Protocol):
    """Counts the samples of workers as the server knows them."""

    def __call__(self, world: World, step: Array, workers: Array, /) -> Array:
        """The numbers of samples that workers claim to hold.

        Args:
            world: Arrays of the run.
            step: The update.
            workers: `[m]`, the workers, -1 for none.

        Returns:
            `[m]`.
        """
        ...


@compiled_once
def build_count_samples(adversary: Adversary, ranks: ByzantineRanks) -> CountSamples:
    """Builds the count of the workers' samples.

    Args:
        adversary: The adversary, whose workers may claim other numbers than they hold.
        ranks: Numbers the Byzantine workers.

    Returns:
        The function that counts.
    """

    def count_samples(world: World, step: Array, workers: Array) -> Array:
        held = world.sizes[workers]
        if adversary.claim is None:
            return held
        return adversary.claim(held.astype(float), jnp.where(workers >= 0, ranks(world, step)[workers], -1), step)

    return count_samples
