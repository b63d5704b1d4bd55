"""The optimizers of server and workers, and the gradients and memories of workers."""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.part import Part, function_of
from byzax.simulator.config.rates import RatePart
from byzax.simulator.config.run import Run
from byzax.simulator.config.worker import Clipping, Local, Momentum, Regularisation, VarianceReduction
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.rates import Rate
from byzax.simulator.world import World

Array = jax.Array
State = Any


class WorkerTraining(NamedTuple):
    """The settings of a scenario for a worker's job.

    Attributes:
        local: The local steps; None for one gradient.
        sends_models: Whether a row is the model after these steps, and not the change.
        regularisation: Penalties in every gradient.
        clipping: Bounds on every gradient; None for none.
        reduction: Variance reduction; None for none.
        updates: Number of updates of the run where the local learning rate depends on it, else 0.
    """

    local: Local | None
    sends_models: bool
    regularisation: Regularisation
    clipping: Clipping | None
    reduction: VarianceReduction | None
    updates: int


def worker_training(run: Run) -> WorkerTraining:
    """The settings of a run for a worker's job, equal for runs that can share compiled code.

    Args:
        run: The run.

    Returns:
        The settings.
    """
    local = run.local
    optimizer = None if local is None else local.optimizer
    speed = None if local is None else local.learning_rate if optimizer is None else _learning_rate(optimizer)
    updates = run.steps if isinstance(speed, RatePart) else 0
    # the bound on the model is the server's
    penalties = run.regularisation.replace(max_norm=None)
    return WorkerTraining(local, run.sends_models, penalties, run.clipping, run.variance_reduction, updates)


def build_rate(chosen: float | RatePart, updates: int) -> float | Rate:
    """Builds a learning rate in the form that optax takes.

    Args:
        chosen: A number, or a schedule.
        updates: Number of updates of the run.

    Returns:
        The number, or a function of the number of updates made before, its warm-up included.

    Raises:
        ValueError: For an option of the schedule out of its range.
    """
    if not isinstance(chosen, RatePart):
        return chosen
    schedule = chosen.make(max(1, updates - chosen.warm_up))
    if not chosen.warm_up:
        return schedule
    first, warm_up = schedule(0), chosen.warm_up

    def warmed(step: Any) -> Any:
        return jnp.where(step < warm_up, first * (step + 1) / warm_up, schedule(jnp.maximum(step - warm_up, 0)))

    return warmed


def _learning_rate(optimizer: Part) -> float | RatePart | None:
    """The learning rate of an optimizer; None for one of the user's own that has no such option."""
    return getattr(optimizer, "learning_rate", None)


def _build_rate_of(optimizer: Part, updates: int) -> float | Rate | None:
    speed = _learning_rate(optimizer)
    return None if speed is None else build_rate(speed, updates)


def _with_rate(optimizer: Part, now: Any) -> optax.GradientTransformation:
    return function_of(optimizer)(**optimizer.options() | ({} if now is None else {"learning_rate": now}))


def build_optimizer(part: Part, updates: int, max_norm: float | None = None) -> optax.GradientTransformation:
    """Builds the server's optimizer.

    Args:
        part: The optimizer and its options.
        updates: Number of updates of the run.
        max_norm: Largest length of the parameters after an update; None for any.

    Returns:
        The optimizer.

    Raises:
        ValueError: For an option of the optimizer or its rate out of its range.
    """
    optimizer = _with_rate(part, _build_rate_of(part, updates))
    return optimizer if max_norm is None else optax.chain(optimizer, _build_projection(max_norm))


def _build_projection(bound: float) -> optax.GradientTransformation:
    """Projects parameters that leave the ball of this radius onto it."""

    def update(updates: Any, state: State, params: Any = None) -> tuple[Any, State]:
        after = params + updates
        return jnp.where(jnp.linalg.norm(after) > bound, clip_norm(after, bound) - params, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_norm(vector: Array, bound: float) -> Array:
    """Shortens a vector to a length.

    Args:
        vector: `[d]`.
        bound: The largest length.

    Returns:
        `[d]`, of length `bound` where it was longer, else as it was; as it was also where it is not finite.
    """
    # measured in units of its largest value: squares of 1e20 would be infinite
    largest = jnp.max(jnp.abs(vector))
    unit = jnp.where(largest > 0, largest, 1)
    scaled = vector / unit
    length = jnp.linalg.norm(scaled)
    return jnp.where(length * unit > bound, scaled * (bound / length), vector)


class Gradient(Protocol):
    """Computes the gradient of a worker on one batch."""

    def __call__(
        self,
        world: World,
        params: Array,
        worker: Array,
        handed: Array,
        places: Array,
        keys: Any,
        shares: Array | None = None,
        /,
    ) -> Array:
        """The gradient.

        Args:
            world: Arrays of the run.
            params: `[d]`, the model.
            worker: The worker.
            handed: The version of the model that it was handed.
            places: `[b]`, the places of the samples among the worker's own.
            keys: `JobKeys` of the batch.
            shares: `[b]`, the share of each sample in the loss, 0 where it only fills up the batch; None for 1/b.

        Returns:
            `[d]`.
        """
        ...


def penalise_and_clip(gradient: Gradient, how: WorkerTraining) -> Gradient:
    """Adds the gradient of the penalties, then clips by value and then by norm.

    Args:
        gradient: The gradient of the loss.
        how: The settings of the worker.

    Returns:
        The gradient that the worker takes.
    """
    l1, l2 = how.regularisation.l1, how.regularisation.l2
    clip = how.clipping
    if not (l1 or l2 or clip):
        return gradient

    def penalised_and_clipped(world: World, params: Array, *others: Any) -> Array:
        vector = gradient(world, params, *others)
        if l1:
            vector = vector + l1 * jnp.sign(params)
        if l2:
            vector = vector + l2 * params
        if clip is not None and clip.value is not None:
            vector = jnp.clip(vector, -clip.value, clip.value)
        if clip is not None and clip.norm is not None:
            vector = clip_norm(vector, clip.norm)
        return vector

    return penalised_and_clipped


class InitLocalOptimizer(Protocol):
    """Makes the state of a worker's optimizer."""

    def __call__(self, params: Array, /) -> State:
        """The state before the first step of a job that starts from the model `[d]`."""
        ...


class LocalStep(Protocol):
    """Takes one step of a worker."""

    def __call__(self, at: Array, state: State, gradient: Array, start: Array, handed: Array, /) -> tuple[Array, State]:
        """The parameters after the step.

        Args:
            at: `[d]`, the parameters before the step.
            state: State of the optimizer.
            gradient: `[d]`, at these parameters.
            start: `[d]`, the parameters at the beginning of the job.
            handed: The version of the model that the worker was handed, by which its learning rate goes.

        Returns:
            The parameters `[d]`, and the state after the step.
        """
        ...


class LocalOptimizer(NamedTuple):
    """The optimizer of a worker's local steps, which begins anew with every job.

    Attributes:
        init: Makes the state at the beginning of a job.
        step: Takes one step.
    """

    init: InitLocalOptimizer
    step: LocalStep


def build_local_optimizer(local: Local, updates: int) -> LocalOptimizer:
    """Builds the optimizer of a worker's local steps.

    Args:
        local: The local steps in a scenario.
        updates: Number of updates of the run.

    Returns:
        The optimizer.
    """
    proximal = local.proximal

    def towards_start(gradient: Array, at: Array, start: Array) -> Array:
        return gradient + proximal * (at - start) if proximal else gradient

    if local.optimizer is None:
        assert local.learning_rate is not None
        speed = build_rate(local.learning_rate, updates)

        def step(at: Array, state: State, gradient: Array, start: Array, handed: Array) -> tuple[Array, State]:
            now: Any = speed(handed) if callable(speed) else speed
            return at - now * towards_start(gradient, at, start), state

        return LocalOptimizer(lambda params: (), step)

    part = local.optimizer
    speed = _build_rate_of(part, updates)

    def optimizer(handed: Any) -> optax.GradientTransformation:
        now = speed(handed) if callable(speed) else speed
        return _with_rate(part, now)

    def step_by(at: Array, state: State, gradient: Array, start: Array, handed: Array) -> tuple[Array, State]:
        change, state = optimizer(handed).update(towards_start(gradient, at, start), state, at)
        return jnp.asarray(optax.apply_updates(at, change)), state

    return LocalOptimizer(lambda params: optimizer(0).init(params), step_by)


def num_batches(local: Local, held: Any, batch_size: int) -> Any:
    """The number of batches of one epoch.

    Args:
        local: The local steps in a scenario, which say whether a last batch that is not full counts.
        held: Number of samples, a number or an array.
        batch_size: Samples of a batch.

    Returns:
        The number of batches, at least 1, of the shape of `held`.
    """
    if local.last_batch == "keep":
        return -(-held // batch_size)
    # a worker with fewer samples than a batch keeps them
    return held // batch_size + (held < batch_size)


def draw_fixed_batch(draw: Array, held: Array, batch_size: int) -> tuple[Array, Array]:
    """Draws one of the fixed batches of a worker.

    Args:
        draw: Key.
        held: Number of the worker's samples.
        batch_size: Samples of a batch.

    Returns:
        The number of the batch drawn, and how many batches the worker has: as few as hold all its samples.
    """
    count = -(-held // batch_size)
    return jax.random.randint(draw, (), 0, count), count


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
