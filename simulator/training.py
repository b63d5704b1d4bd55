"""The optimizers of server and workers, and the gradients of workers."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from byzax.simulator.batches import Batches
from byzax.simulator.config.part import Part, function_of
from byzax.simulator.config.privacy import Privacy
from byzax.simulator.config.rates import RatePart
from byzax.simulator.config.run import Run
from byzax.simulator.config.worker import Clipping, Local, Regularisation, VarianceReduction
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
        batches: The draw of batches.
        privacy: The clipping of every sample's gradient, and the noise; None for none.
    """

    local: Local | None
    sends_models: bool
    regularisation: Regularisation
    clipping: Clipping | None
    reduction: VarianceReduction | None
    updates: int
    batches: Batches = "replacement"
    privacy: Privacy | None = None


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
    private = run.privacy
    # no gradient depends on delta
    private = private.replace(delta=0.5) if private is not None and private.level == "sample" else None
    return WorkerTraining(
        local, run.sends_models, penalties, run.clipping, run.variance_reduction, updates, run.data.batches, private
    )


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
