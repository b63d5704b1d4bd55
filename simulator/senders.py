"""The senders of the rows of an update: who of them is Byzantine, and how many samples each claims to hold."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.simulator.adversary import Adversary, ByzantineRanks
from byzax.simulator.compilation import compiled_once
from byzax.simulator.world import World

Array = jax.Array


class Arrivals(NamedTuple):
    """The senders of the r rows of one update.

    Attributes:
        workers: `[r]`, the worker of each row; -1 where no row is, to fill up an update.
        versions: `[r]`, the version of the model that each worker was handed.
        lags: `[r]`, updates since the one that each row arrived for; None where all rows are new.
        new: The places of new rows; None where nothing depends on it.
        receiver: The node that the rows go to; None for the only server.
        own: `[r]`, true for the row of the receiver itself; None where that is a server.
        weights: `[r]`, the weights of the edges to the senders; None where the receiver mixes by no weights.
    """

    workers: Any
    versions: Any
    lags: Any = None
    new: Any = None
    receiver: Any = None
    own: Any = None
    weights: Any = None


class RanksOfRows(Protocol):
    """Numbers the senders of rows among the Byzantine workers."""

    def __call__(self, world: World, step: Array, arrived: Arrivals, /) -> Array:
        """The number of each row's worker among the Byzantine ones of the update that the row arrived for.

        Args:
            world: Arrays of the run.
            step: The update.
            arrived: The senders of the r rows.

        Returns:
            `[r]`, -1 for honest workers and where no row is.
        """
        ...


@compiled_once
def build_ranks_of_rows(ranks: ByzantineRanks, changing: bool) -> RanksOfRows:
    """Builds the numbering of the senders of rows.

    Args:
        ranks: Numbers the Byzantine workers.
        changing: Whether the Byzantine workers are drawn for every update.

    Returns:
        The function that numbers them.
    """

    def ranks_of_rows(world: World, step: Array, arrived: Arrivals) -> Array:
        if changing and arrived.lags is not None:
            return _ranks_in(ranks, world, step - arrived.lags, arrived.workers)
        return jnp.where(arrived.workers >= 0, ranks(world, step)[arrived.workers], -1)

    return ranks_of_rows


def _ranks_in(ranks: ByzantineRanks, world: World, updates: Array, workers: Array) -> Array:
    """The numbers `[r]` of workers among the Byzantine ones, each in an update of its own; -1 for worker -1."""

    def draw(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        found, left = carry
        update = updates[jnp.argmax(left)]
        mine = left & (updates == update)
        return jnp.where(mine, ranks(world, update)[workers], found), left & ~mine

    # Byzantine workers are drawn for all workers at once: once for each update, of which there are few
    begin = jnp.full(workers.shape, -1, jnp.int32), workers >= 0
    return jax.lax.while_loop(lambda carry: carry[1].any(), draw, begin)[0]


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
def build_is_byzantine(
    adversary: Adversary, ranks: ByzantineRanks, ranks_of_rows: RanksOfRows, changing: bool
) -> IsByzantine:
    """Builds the test whether rows are Byzantine.

    A row is Byzantine where its worker is in the update that the row arrives for, or had poisoned data when it trained,
    which counts for the update whose model it was handed.

    Args:
        adversary: The adversary.
        ranks: Numbers the Byzantine workers.
        ranks_of_rows: Numbers the senders of rows.
        changing: Whether the Byzantine workers are drawn for every update.

    Returns:
        The function that finds the Byzantine rows.
    """

    def is_byzantine(world: World, step: Array, arrived: Arrivals) -> Array:
        sending = ranks_of_rows(world, step, arrived)
        if not changing:
            return sending >= 0
        byzantine = adversary.byzantine_in_sending(sending)
        if adversary.corrupt is not None:
            training = _ranks_in(ranks, world, arrived.versions, arrived.workers)
            byzantine |= adversary.byzantine_in_training(training)
        return byzantine

    return is_byzantine


class CountSamples(Protocol):
    """Counts the samples of workers as the server knows them."""

    def __call__(self, world: World, step: Array, arrived: Arrivals, /) -> Array:
        """The numbers of samples that workers claim to hold, in the updates that their rows arrived for.

        Where the receiver mixes by the weights of edges, these stand in their place.

        Args:
            world: Arrays of the run.
            step: The update.
            arrived: The senders of the r rows.

        Returns:
            `[r]`.
        """
        ...


@compiled_once
def build_count_samples(adversary: Adversary, ranks_of_rows: RanksOfRows) -> CountSamples:
    """Builds the count of the workers' samples.

    Args:
        adversary: The adversary, whose workers may claim other numbers than they hold.
        ranks_of_rows: Numbers the senders of rows.

    Returns:
        The function that counts.
    """

    def count_samples(world: World, step: Array, arrived: Arrivals) -> Array:
        if arrived.weights is not None:
            return arrived.weights
        held = world.sizes[arrived.workers]
        if adversary.claim is None:
            return held
        then = step if arrived.lags is None else step - arrived.lags
        return adversary.claim(held.astype(float), ranks_of_rows(world, step, arrived), then)

    return count_samples
