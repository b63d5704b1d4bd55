"""The state of the parameter server: its model, and the table of last rows where it keeps one."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from byzax.aggregators import Aggregator
from byzax.aggregators.filters import Filter
from byzax.models import Model
from byzax.simulator.compilation import compiled_once
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.senders import Arrivals
from byzax.simulator.server_row import ServerRow
from byzax.simulator.world import World

Array = jax.Array
State = Any


class RowTable(NamedTuple):
    """The last row of every worker.

    Attributes:
        rows: `[n, d]`.
        versions: `[n]`, the versions of the model that the workers were handed for them.
        present: `[n]`, the workers that have a row in the table.
        byzantine: `[n]`, the rows that counted as Byzantine when they arrived.
        samples: `[n]`, the number of samples that each worker then claimed to hold.
    """

    rows: Array
    versions: Array
    present: Array
    byzantine: Array
    samples: Array


class Server(NamedTuple):
    """The state of the parameter server.

    Attributes:
        params: `[d]`, the model.
        optimizer: State of the optimizer.
        rule: State of the rule; with the memory of the server's own rows where it keeps one for the rule.
        filter: State of the filter, likewise; None without a filter.
        table: The last row of every worker; None where the schedule keeps none.
        step: Number of updates so far.
    """

    params: Array
    optimizer: State
    rule: State
    filter: State
    table: RowTable | None
    step: Array


def public_state(server: Server) -> Server:
    """The public part of a server's state.

    Args:
        server: The state.

    Returns:
        The state without that of the filter and without the rows that are kept.
    """
    return server._replace(filter=None, table=None)


def empty_table(n: int, d: int) -> RowTable:
    """The table before the first row.

    Args:
        n: Number of workers.
        d: Number of parameters.

    Returns:
        The table, in which nobody is present.
    """
    return RowTable(jnp.zeros((n, d)), jnp.zeros(n, jnp.int32), jnp.zeros(n, bool), jnp.zeros(n, bool), jnp.zeros(n))


def enter_rows(table: RowTable, arrived: Arrivals, rows: Array, byzantine: Array, samples: Array) -> RowTable:
    """Puts the rows of an update into the table, and takes out those that have left it.

    Args:
        table: The table.
        arrived: The senders of the r rows.
        rows: `[r, d]`.
        byzantine: `[r]`, the rows that count as Byzantine.
        samples: `[r]`, the numbers of samples that the workers claim to hold.

    Returns:
        The table after it.
    """
    present = table.present if arrived.gone is None else table.present & jnp.logical_not(arrived.gone)
    return RowTable(
        table.rows.at[arrived.workers].set(rows),
        table.versions.at[arrived.workers].set(arrived.versions),
        present.at[arrived.workers].set(True),
        table.byzantine.at[arrived.workers].set(byzantine),
        table.samples.at[arrived.workers].set(samples.astype(table.samples.dtype)),
    )


def rows_in_table(table: RowTable, count: int) -> tuple[Array, RowTable]:
    """The rows of the table that the rule sees.

    Args:
        table: The table.
        count: Number of rows: n, or as many as are present.

    Returns:
        The workers `[count]`, ascending, and their part of the table.
    """
    n = len(table.present)
    workers = jnp.arange(n) if count == n else jnp.nonzero(table.present, size=count)[0]
    return workers, jax.tree.map(lambda each: each[workers], table)


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
    kept: int,
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
        kept: Number of workers whose last row the server keeps: n or 0.
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
        table = empty_table(kept, d) if kept else None
        filter_state = None if judge is None else judge.init(params)
        rule_state = rule.init(d)
        if rule_remembers:
            rule_state = (rule_state, own.start(world, d))
        if filter_remembers:
            filter_state = (filter_state, own.start(world, d))
        return Server(params, optimizer.init(params), rule_state, filter_state, table, jnp.asarray(0))

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
