"""The memories of workers across their jobs: momentum, variance reduction, control variates."""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from byzax.simulator.batches import draw_fixed_batch
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.worker import Momentum, VarianceReduction
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.world import World

Array = jax.Array
State = Any


class StartMemory(Protocol):
    """Makes the memory of one worker."""

    def __call__(self, world: World, d: int, /) -> State:
        """The memory before the worker's first row, of `d` coordinates."""
        ...


class Remember(Protocol):
    """Puts a row into the memory of a worker."""

    def __call__(self, world: World, memory: State, row: Array, worker: Any, draw: Any, /) -> tuple[State, Array]:
        """The memory with the row, and what the worker sends.

        Args:
            world: Arrays of the run.
            memory: The worker's memory.
            row: `[d]`, as its job computed it.
            worker: The worker.
            draw: Key of the batches of the job; the number of the job after `with_job_keys`.

        Returns:
            The memory, and the row `[d]` that the worker sends.
        """
        ...


class ReceiveModel(Protocol):
    """Puts a model that arrives into the memory of a worker."""

    def __call__(self, memory: State, params: Array, /) -> State:
        """The memory with the model `[d]`."""
        ...


class Memory(NamedTuple):
    """The memory of a worker across its jobs, which the rows change that go into an update.

    Attributes:
        start: Makes the memory before the first row.
        remember: Puts a row into the memory, and makes what the worker sends.
        receive: Puts a model that arrives into the memory, which the job then reads; None where jobs read no memory.
    """

    start: StartMemory
    remember: Remember
    receive: ReceiveModel | None = None


@compiled_once
def build_memory(momentum: Momentum, reduction: VarianceReduction | None, batch_size: int) -> Memory | None:
    """Builds the memory of workers: variance reduction, then momentum.

    It is no part of a job: in a race a row is computed before it is known whether it goes into an update, and only
    such rows count.

    Args:
        momentum: Momentum of the workers.
        reduction: Variance reduction; None for none.
        batch_size: Samples of a batch.

    Returns:
        The memory; None with neither momentum nor variance reduction.
    """
    parts = [] if reduction is None else [_build_saga(batch_size)]
    parts += [_build_momentum(momentum)] if momentum.beta else []
    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]

    def remember(world: World, memory: State, row: Array, worker: Array, draw: Array) -> tuple[State, Array]:
        after = []
        for part, own in zip(parts, memory, strict=True):
            own, row = part.remember(world, own, row, worker, draw)
            after.append(own)
        return tuple(after), row

    return Memory(lambda world, d: tuple(part.start(world, d) for part in parts), remember)


@compiled_once
def with_job_keys(memory: Memory) -> Memory:
    """The memory with a `remember` that takes the number of the job in place of its key.

    Args:
        memory: The memory of workers.

    Returns:
        The memory.
    """

    @jax.jit
    def remember(world: World, own: State, row: Array, worker: Array, job: Array) -> tuple[State, Array]:
        return memory.remember(world, own, row, worker, derive(world.key, Purpose.WORK, worker, job))

    return memory._replace(remember=remember)


class ControlVariates(NamedTuple):
    """SCAFFOLD's control variates at one worker.

    Attributes:
        own: `[d]`, the worker's own.
        common: `[d]`, that of the server.
        model: `[d]`, the model that the worker was handed last.
        has_model: Whether it was handed one.
    """

    own: Array
    common: Array
    model: Array
    has_model: Array


@compiled_once
def build_control_variates(steps: int, learning_rate: float, server_rate: float) -> Memory:
    """Builds the control variates of option II, for plain SGD at workers and server and all workers in every update.

    Then the common one is the mean of all workers' own, which is the last aggregate over steps times learning rate: a
    worker computes it from the last two models that it was handed, whatever rule made them.

    Args:
        steps: Local steps of a job.
        learning_rate: Learning rate of these.
        server_rate: Learning rate of the server.

    Returns:
        The memory of workers.

    References:
        Karimireddy et al., ICML 2020, "SCAFFOLD", algorithm 1
    """
    whole = steps * learning_rate

    def start(world: World, d: int) -> ControlVariates:
        nothing = jnp.zeros(d)
        return ControlVariates(nothing, nothing, nothing, jnp.zeros((), bool))

    @jax.jit
    def receive(memory: ControlVariates, params: Array) -> ControlVariates:
        common = jnp.where(memory.has_model, (memory.model - params) / (server_rate * whole), 0)
        return ControlVariates(memory.own, common, params, jnp.ones((), bool))

    def remember(
        world: World, memory: ControlVariates, row: Array, worker: Array, draw: Array
    ) -> tuple[ControlVariates, Array]:
        return memory._replace(own=memory.own - memory.common + row / whole), row

    return Memory(start, remember, receive)


def _build_momentum(momentum: Momentum) -> Memory:
    beta = momentum.beta
    weight = 1 - beta if momentum.kind == "exponential" else 1

    def remember(world: World, velocity: Array, row: Array, worker: Array, draw: Array) -> tuple[Array, Array]:
        velocity = beta * velocity + weight * row
        return velocity, velocity

    return Memory(lambda world, d: jnp.zeros(d), remember)


def _build_saga(batch_size: int) -> Memory:
    """The last gradient of every batch of the worker `[batches, d]`, zeros for a batch that was not drawn yet."""

    def start(world: World, d: int) -> Array:
        return jnp.zeros((math.ceil(world.shards.shape[1] / batch_size), d))

    def remember(world: World, table: Array, row: Array, worker: Array, draw: Array) -> tuple[Array, Array]:
        batch, count = draw_fixed_batch(draw, world.sizes[worker], batch_size)
        # rows of the table beyond the worker's batches are zeros
        return table.at[batch].set(row), row - table[batch] + table.sum(axis=0) / count

    return Memory(start, remember)
