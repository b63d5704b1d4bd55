"""The state of the parameter server, its start, and the step of its optimizer."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from byzax.aggregators import Aggregator
from byzax.aggregators.filters import Filter
from byzax.models import Model
from byzax.simulator.compilation import compiled_once
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.server_row import ServerRow
from byzax.simulator.world import World

Array = jax.Array
State = Any


class Server(NamedTuple):
    """The state of the parameter server.

    Attributes:
        params: `[d]`, the model.
        optimizer: State of the optimizer.
        rule: State of the rule; with the memory of the server's own rows where it keeps one for the rule.
        filter: State of the filter, likewise; None without a filter.
        step: Number of updates so far.
    """

    params: Array
    optimizer: State
    rule: State
    filter: State
    step: Array


def public_state(server: Server) -> Server:
    """The public part of a server's state.

    Args:
        server: The state.

    Returns:
        The state without that of the filter.
    """
    return server._replace(filter=None)


class Start(Protocol):
    """Starts the parameter server."""

    def __call__(self, world: World, /) -> Server:
        """The state of the server before the first update."""
        ...


@compiled_once
def build_start(
    model: Model,
    optimizer: optax.GradientTransformation,
    rule: Aggregator,
    judge: Filter | None,
    own: ServerRow,
    rule_remembers: bool,
    filter_remembers: bool,
) -> Start:
    """Builds the start of the parameter server.

    Args:
        model: The model.
        optimizer: The server's optimizer.
        rule: The rule.
        judge: The filter; None for none.
        own: The server's own row.
        rule_remembers: Whether the server remembers its own rows for the rule.
        filter_remembers: Whether it remembers them for the filter.

    Returns:
        The function that makes the state of the server, compiled.
    """

    @jax.jit
    def start(world: World) -> Server:
        params = model.init(derive(world.start_key, Purpose.INIT))
        d = len(params)
        filter_state = None if judge is None else judge.init(params)
        rule_state = rule.init(d)
        if rule_remembers:
            rule_state = (rule_state, own.start(world, d))
        if filter_remembers:
            filter_state = (filter_state, own.start(world, d))
        return Server(params, optimizer.init(params), rule_state, filter_state, jnp.asarray(0))

    return start


class MoveModel(Protocol):
    """Applies an aggregate to the model."""

    def __call__(self, params: Array, state: State, aggregate: Array, /) -> tuple[Array, State]:
        """The model after the update.

        Args:
            params: `[d]`, the model before it.
            state: State of the server's optimizer.
            aggregate: `[d]`.

        Returns:
            The model `[d]`, and the state after the update.
        """
        ...


@compiled_once
def build_move_model(optimizer: optax.GradientTransformation, models: bool) -> MoveModel:
    """Builds the step of the server's optimizer.

    Args:
        optimizer: The server's optimizer.
        models: Whether rows, and so the aggregate, are models and not gradients or changes.

    Returns:
        The function that applies an aggregate to the model.
    """

    def move(params: Array, state: State, aggregate: Array) -> tuple[Array, State]:
        descent = params - aggregate if models else aggregate
        change, state = optimizer.update(descent, state, params)
        return jnp.asarray(optax.apply_updates(params, change)), state

    return move


def take_aggregate(params: Array, state: State, aggregate: Array) -> tuple[Array, State]:
    """The next model of a node that mixes models: the aggregate itself. See `MoveModel`."""
    return aggregate, state
