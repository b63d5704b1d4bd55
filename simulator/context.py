"""The server's knowledge beside the rows of an update: what rules and filters get as their context."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.aggregators import Context
from byzax.aggregators.mixing import Neighbourhood
from byzax.models import Model
from byzax.simulator.compilation import compiled_once
from byzax.simulator.keys import Purpose
from byzax.simulator.senders import Arrivals
from byzax.simulator.server import MoveModel, Server
from byzax.simulator.server_row import ServerRow
from byzax.simulator.world import World, scaled_samples

Array = jax.Array
State = Any


class RowOfUpdate(Protocol):
    """Makes the server's own row of one update."""

    def __call__(self, memory: State, /) -> tuple[State, Array]:
        """The memory of the server's own rows after it, and the row `[d]`."""
        ...


class ServerKnowledge(NamedTuple):
    """The server's knowledge beside the rows, in one update.

    Attributes:
        context: The context that rule and filter get.
        own_row: Makes the server's own row; None where it has no samples.
    """

    context: Context
    own_row: RowOfUpdate | None


def with_server_row(
    known: ServerKnowledge, state: State, remembers: bool, when: Callable[[State], Array] | None = None
) -> tuple[Context, State, Callable[[State], State]]:
    """The context of a rule or filter with the server's own row made, where the server remembers these rows.

    Args:
        known: The server's knowledge.
        state: State of the rule or filter; with the memory of the server's own rows where it `remembers` these.
        remembers: Whether the server remembers its own rows for it.
        when: Whether the row is needed, by the state; None for always.

    Returns:
        The context, the state of the rule or filter alone, and a function that puts the memory beside its new state.
    """
    if not remembers:
        return known.context, state, lambda new: new
    assert known.own_row is not None
    own, memory = state
    if when is None:
        memory, row = known.own_row(memory)
    else:
        _, shape = jax.eval_shape(known.own_row, memory)
        memory, row = jax.lax.cond(when(own), known.own_row, lambda memory: (memory, jnp.zeros_like(shape)), memory)
    return known.context._replace(gradient=lambda: row), own, lambda new: (new, memory)


class MakeContext(Protocol):
    """Gathers the server's knowledge beside the rows."""

    def __call__(self, world: World, server: Server, step: Array, key: Array, arrived: Arrivals, /) -> ServerKnowledge:
        """The knowledge of a server or node before an update.

        Args:
            world: Arrays of the run.
            server: State of the server.
            step: The update.
            key: Key of what rule or filter draw.
            arrived: The senders of the rows.

        Returns:
            The knowledge. Samples are drawn and gradients computed where a function of it is called.
        """
        ...


@compiled_once
def build_context(model: Model, batch_size: int, own: ServerRow, move: MoveModel) -> MakeContext:
    """Builds the context of rule and filter.

    Args:
        model: The model.
        batch_size: Samples of a batch.
        own: The server's own row.
        move: Applies an aggregate to the model.

    Returns:
        The function that gathers the server's knowledge.
    """

    def make_context(world: World, server: Server, step: Array, key: Array, arrived: Arrivals) -> ServerKnowledge:
        def after(aggregate: Array) -> Array:
            return move(server.params, server.optimizer, aggregate)[0]

        def build_loss(samples: Array, count: Array | int) -> Callable[[Array], Array]:
            def loss(params: Array) -> Array:
                draw = jax.random.fold_in(key, int(Purpose.SERVER_BATCH))
                position = samples[jax.random.randint(draw, (batch_size,), 0, count)]
                return model.loss(params, scaled_samples(world, position), world.y[position])

            return loss

        if arrived.weights is not None:
            around = Neighbourhood(arrived.own, arrived.weights, world.byzantine_rank[arrived.workers] >= 0)
            loss = build_loss(world.shards[arrived.receiver], world.sizes[arrived.receiver])
            return ServerKnowledge(Context(key, server.params, None, loss, after, around), None)
        if not len(world.validation):
            return ServerKnowledge(Context(key, server.params, after=after), None)

        def own_row(memory: State) -> tuple[State, Array]:
            return own.make(world, server.params, step, key, memory)

        loss = build_loss(world.validation, len(world.validation))
        return ServerKnowledge(Context(key, server.params, lambda: own_row(None)[1], loss, after), own_row)

    return make_context
