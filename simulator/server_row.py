"""The server's own row, made the way workers make theirs, for the rules and filters that compare with it."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.worker import Local
from byzax.simulator.jobs import JobKeys, MakeRow
from byzax.simulator.keys import Purpose
from byzax.simulator.memories import Memory, StartMemory
from byzax.simulator.training import num_batches
from byzax.simulator.world import World

Array = jax.Array
State = Any


class MakeServerRow(Protocol):
    """Makes the server's own row."""

    def __call__(self, world: World, params: Array, step: Array, key: Array, memory: State, /) -> tuple[State, Array]:
        """The row of an update.

        Args:
            world: Arrays of the run.
            params: `[d]`, the model.
            step: The update.
            key: Key of the row.
            memory: Memory of the server's own rows.

        Returns:
            The memory with the row, and the row `[d]`.
        """
        ...


class ServerRow(NamedTuple):
    """The server's own row, made the way workers make theirs, on the samples kept for validation.

    Attributes:
        start: Makes the memory of these rows.
        make: Makes the row of an update.
    """

    start: StartMemory
    make: MakeServerRow


@compiled_once
def build_server_row(make_row: MakeRow, memory: Memory | None, local: Local | None, batch_size: int) -> ServerRow:
    """Builds the server's own row.

    With epochs it takes as many steps as a worker does on average: the server's samples may be many more or fewer.

    Args:
        make_row: The job of a worker.
        memory: The memory of workers; None for none.
        local: The local steps of workers; None for one gradient.
        batch_size: Samples of a batch.

    Returns:
        The row.
    """

    def as_worker(world: World) -> World:
        # the only worker of a world of its own
        return world._replace(shards=world.validation[None], sizes=jnp.array([len(world.validation)]))

    def make(world: World, params: Array, step: Array, key: Array, kept: State) -> tuple[State, Array]:
        draw = jax.random.fold_in(key, int(Purpose.SERVER_BATCH))
        others = (Purpose.AUGMENT, Purpose.CORRUPT, Purpose.DROPOUT, Purpose.NOISE)
        keys = JobKeys(draw, *(jax.random.fold_in(key, int(purpose)) for purpose in others))
        here, given, only = as_worker(world), (), {}
        if memory is not None and memory.receive is not None:
            kept = memory.receive(kept, params)
            given = (kept,)
        if local is not None and local.epochs is not None:
            steps = local.epochs * num_batches(local, world.sizes, batch_size)
            only = {"steps": jnp.round(steps.mean()).astype(steps.dtype)}
        first = jnp.asarray(0)
        row = make_row(here, params, first, keys, step, *given, **only)
        return (kept, row) if memory is None else memory.remember(here, kept, row, first, draw)

    def start(world: World, d: int) -> State:
        return None if memory is None else memory.start(as_worker(world), d)

    return ServerRow(start, make)
