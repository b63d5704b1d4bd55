"""How parameters are moved: the server's optimizer, a worker's steps, and what a worker makes of its gradients."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

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


class Training(NamedTuple):
    """What a scenario says about the work of a worker. `updates`: those of the run, where a rate depends on them."""

    local: Local | None
    regularisation: Regularisation
    clipping: Clipping | None
    reduction: VarianceReduction | None
    updates: int


def training(run: Run) -> Training:
    """What a scenario says about the work of a worker; equal where compiled code can be shared."""
    local = run.local
    speed = None if local is None else local.learning_rate if local.optimizer is None else _speed(local.optimizer)
    updates = run.steps if isinstance(speed, RatePart) else 0
    # the server's part of it is none of a worker's
    mine = run.regularisation.replace(max_norm=None)
    return Training(local, mine, run.clipping, run.variance_reduction, updates)


def rate(chosen: float | RatePart, updates: int) -> float | Rate:
    """A learning rate as optax takes it: a number, or the rate by the number of updates before, of `updates` in all.

    Raises ValueError for an option out of range.
    """
    if not isinstance(chosen, RatePart):
        return chosen
    then = chosen.make(max(1, updates - chosen.warm_up))
    if not chosen.warm_up:
        return then
    first, rising = then(0), chosen.warm_up

    def warmed(step: Any) -> Any:
        return jnp.where(step < rising, first * (step + 1) / rising, then(jnp.maximum(step - rising, 0)))

    return warmed


def _speed(optimizer: Part) -> float | RatePart | None:
    """The learning rate of an optimizer; None for one of the user's own that has no such option."""
    return getattr(optimizer, "learning_rate", None)


def _rate_of(optimizer: Part, updates: int) -> float | Rate | None:
    speed = _speed(optimizer)
    return None if speed is None else rate(speed, updates)


def _with_rate(optimizer: Part, now: Any) -> optax.GradientTransformation:
    return function_of(optimizer)(**optimizer.options() | ({} if now is None else {"learning_rate": now}))


def optimizing(part: Part, updates: int, max_norm: float | None = None) -> optax.GradientTransformation:
    """The server's optimizer in a run of so many updates; after each the parameters are no longer than `max_norm`."""
    made = _with_rate(part, _rate_of(part, updates))
    return made if max_norm is None else optax.chain(made, _held_within(max_norm))


def _held_within(bound: float) -> optax.GradientTransformation:
    """Changes that leave the ball of this radius end on it: the parameters are projected."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        after = params + updates
        return jnp.where(jnp.linalg.norm(after) > bound, clipped(after, bound) - params, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clipped(vector: Array, bound: float) -> Array:
    """The vector, shortened to a length of `bound` where it is longer; as it is where it is not finite."""
    # measured in units of its largest value: squares of 1e20 would be infinite
    largest = jnp.max(jnp.abs(vector))
    unit = jnp.where(largest > 0, largest, 1)
    scaled = vector / unit
    length = jnp.linalg.norm(scaled)
    return jnp.where(length * unit > bound, scaled * (bound / length), vector)


def shaped(gradient: Callable[..., Array], how: Training) -> Callable[..., Array]:
    """A gradient `(world, params, ...) -> [d]` with that of the penalties, clipped by value and then by norm."""
    l1, l2 = how.regularisation.l1, how.regularisation.l2
    clip = how.clipping
    if not (l1 or l2 or clip):
        return gradient

    def made(world: World, params: Array, *others: Any) -> Array:
        found = gradient(world, params, *others)
        if l1:
            found = found + l1 * jnp.sign(params)
        if l2:
            found = found + l2 * params
        if clip is not None and clip.value is not None:
            found = jnp.clip(found, -clip.value, clip.value)
        if clip is not None and clip.norm is not None:
            found = clipped(found, clip.norm)
        return found

    return made


class Steps(NamedTuple):
    """A worker's own optimizer. `init(params)` gives its state; `step(at, state, gradient, start, handed)` what
    follows.

    `start` are the parameters that the job began with, after `handed` updates.
    """

    init: Callable[[Array], Any]
    step: Callable[[Array, Any, Array, Array, Array], tuple[Array, Any]]


def stepping(local: Local, updates: int) -> Steps:
    """The steps of a job: its optimizer begins anew, and its rate goes by the updates before its first model."""
    pull = local.proximal

    def towards(gradient: Array, at: Array, start: Array) -> Array:
        return gradient + pull * (at - start) if pull else gradient

    if local.optimizer is None:
        assert local.learning_rate is not None
        speed = rate(local.learning_rate, updates)

        def step(at: Array, state: Any, gradient: Array, start: Array, handed: Array) -> tuple[Array, Any]:
            now: Any = speed(handed) if callable(speed) else speed
            return at - now * towards(gradient, at, start), state

        return Steps(lambda params: (), step)

    part = local.optimizer
    speed = _rate_of(part, updates)

    def optimizer(handed: Any) -> optax.GradientTransformation:
        now = speed(handed) if callable(speed) else speed
        return _with_rate(part, now)

    def step_by(at: Array, state: Any, gradient: Array, start: Array, handed: Array) -> tuple[Array, Any]:
        change, state = optimizer(handed).update(towards(gradient, at, start), state, at)
        return jnp.asarray(optax.apply_updates(at, change)), state

    return Steps(lambda params: optimizer(0).init(params), step_by)


def batches_of(local: Local, held: Any, batch_size: int) -> Any:
    """The batches of one pass over so many samples: numbers, or arrays of them."""
    if local.last_batch == "keep":
        return -(-held // batch_size)
    # whoever holds fewer than a batch keeps them
    return held // batch_size + (held < batch_size)


def fixed_batch(draw: Array, held: Array, batch_size: int) -> tuple[Array, Array]:
    """Which of its fixed batches a worker takes in a job, and how many it has: as many as hold all its samples."""
    count = -(-held // batch_size)
    return jax.random.randint(draw, (), 0, count), count


class Memory(NamedTuple):
    """What a worker remembers of its rows that were used.

    `start(world, d)` gives the memory of one worker before its first row. `remember(world, memory, row [d], worker,
    draw)` gives `(memory, what it sends [d])`; `draw` is the key of the row's batches. `handed(memory, params [d])`:
    the memory when a model came, which the job is then given too; None where jobs need none.
    """

    start: Callable[[World, int], Any]
    remember: Callable[..., tuple[Any, Array]]
    handed: Callable[[Any, Array], Any] | None = None


@compiled_once
def remembering(momentum: Momentum, reduction: VarianceReduction | None, batch_size: int) -> Memory | None:
    """Variance reduction and then momentum, for rows that were used; None with neither.

    It is no part of the job: on the clock a row is computed before anybody knows whether it will be used, and only used
    rows count.
    """
    parts = [] if reduction is None else [_saga(batch_size)]
    parts += [_momentum(momentum)] if momentum.beta else []
    if not parts:
        return None
    if len(parts) == 1:
        return parts[0]

    def remember(world: World, memory: Any, row: Array, worker: Array, draw: Array) -> tuple[Any, Array]:
        after = []
        for part, own in zip(parts, memory, strict=True):
            own, row = part.remember(world, own, row, worker, draw)
            after.append(own)
        return tuple(after), row

    return Memory(lambda world, d: tuple(part.start(world, d) for part in parts), remember)


@compiled_once
def by_job(memory: Memory) -> Memory:
    """The memory of workers, whose `remember(world, memory, row, worker, job)` takes a job in place of its key."""

    @jax.jit
    def remember(world: World, own: Any, row: Array, worker: Array, job: Array) -> tuple[Any, Array]:
        return memory.remember(world, own, row, worker, derive(world.key, Purpose.WORK, worker, job))

    return memory._replace(remember=remember)


class Control(NamedTuple):
    """SCAFFOLD's variates at one worker `[d]`, and the `model` it was handed last, if one `came`."""

    own: Array
    common: Array
    model: Array
    came: Array


@compiled_once
def controlling(steps: int, learning_rate: float, server_rate: float) -> Memory:
    """Control variates of option II, for plain SGD at workers and server and all workers in every update.

    Then the common one is the mean of all workers' own, which is the last aggregate over steps times learning rate: a
    worker reads it off the two last models it was handed, through whatever rule made them.
    """
    whole = steps * learning_rate

    def start(world: World, d: int) -> Control:
        nothing = jnp.zeros(d)
        return Control(nothing, nothing, nothing, jnp.zeros((), bool))

    @jax.jit
    def handed(memory: Control, params: Array) -> Control:
        common = jnp.where(memory.came, (memory.model - params) / (server_rate * whole), 0)
        return Control(memory.own, common, params, jnp.ones((), bool))

    def remember(world: World, memory: Control, row: Array, worker: Array, draw: Array) -> tuple[Control, Array]:
        return memory._replace(own=memory.own - memory.common + row / whole), row

    return Memory(start, remember, handed)


def _momentum(momentum: Momentum) -> Memory:
    beta = momentum.beta
    weight = 1 - beta if momentum.kind == "exponential" else 1

    def remember(world: World, velocity: Array, row: Array, worker: Array, draw: Array) -> tuple[Array, Array]:
        velocity = beta * velocity + weight * row
        return velocity, velocity

    return Memory(lambda world, d: jnp.zeros(d), remember)


def _saga(batch_size: int) -> Memory:
    """The last gradient of every batch of the worker `[batches, d]`, zeros where a batch had no turn yet."""

    def start(world: World, d: int) -> Array:
        return jnp.zeros((math.ceil(world.shards.shape[1] / batch_size), d))

    def remember(world: World, table: Array, row: Array, worker: Array, draw: Array) -> tuple[Array, Array]:
        batch, count = fixed_batch(draw, world.sizes[worker], batch_size)
        # rows of the table beyond the worker's batches are zeros
        return table.at[batch].set(row), row - table[batch] + table.sum(axis=0) / count

    return Memory(start, remember)
