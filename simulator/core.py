"""The formulas of a run as pure functions; executors call them and contain no formula of their own."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from aggregators import Aggregator, Context
from aggregators.kernels.means import mean_of
from aggregators.pre import chained
from attacks import Attack, Batch, View
from models import Model
from simulator.components import ATTACKS, MODELS, OPTIMIZERS, PRE, RULES, Component
from simulator.keys import Purpose, derive
from simulator.scenario import DataSource, Scenario
from simulator.world import World, load

Array = jax.Array
Value = Any  # a scalar array; on the host a float, or a series of them


class Server(NamedTuple):
    """What the parameter server holds: the model `params` `[d]`, the states of optimizer and rule, updates so far."""

    params: Array
    optimizer: Any
    rule: Any
    step: Array


class Update(NamedTuple):
    """One update, looked at: scalars, NaN where they have no meaning.

    `aggregate_norm`: length of the aggregate. `honest_cosine`, `honest_distance`: of the aggregate to the mean of the
    honest rows, if there is one. `byzantine_weight`: the share the rule gave to Byzantine rows. `undecided`: 1 where
    the rule reached its limit of work and the aggregate is no answer, else 0.
    """

    aggregate_norm: Value
    honest_cosine: Value
    honest_distance: Value
    byzantine_weight: Value
    undecided: Value


class Evaluation(NamedTuple):
    """One model, looked at: mean losses and accuracies in [0, 1]."""

    train_loss: Value
    train_accuracy: Value
    test_loss: Value
    test_accuracy: Value


class Core(NamedTuple):
    """The functions of a scenario; k is the number of rows of an update, n the number of workers.

    `start(world)` gives the `Server` before the first update. `memory(d)` is what a worker keeps between its jobs,
    `adversary(d)` what the attack keeps. `work(world, params, memory, worker, job)` gives `(row [d], memory)`.
    `forge(world, step, workers [k], rows [k, d], params, rule state, adversary state)` gives `(rows [k, d], adversary
    state)`, honest rows untouched; None where the attack forges nothing. `update(world, server, workers, rows)` gives
    `(server, Update)`. `evaluate(world, params)` gives an `Evaluation`.
    """

    start: Callable[[World], Server]
    memory: Callable[[int], Any]
    adversary: Callable[[int], Any]
    work: Callable[..., tuple[Array, Any]]
    forge: Callable[..., tuple[Array, Any]] | None
    update: Callable[..., tuple[Server, Update]]
    evaluate: Callable[[World, Array], Evaluation]


def build(scenario: Scenario, k: int) -> Core:
    """The core of a scenario whose updates have `k` rows.

    Scenarios that agree in a part share the compiled functions of that part. Raises ValueError where rule, attack and
    numbers of workers do not fit.
    """
    attack = _attack(scenario.attack, scenario.workers.total, scenario.workers.byzantine)
    rule = _rule(scenario.rule, scenario.pre, k, scenario.workers.declared)
    model = _model(scenario.model, scenario.data)
    optimizer = _optimizer(scenario.optimizer)
    classes = load(scenario.data).classes
    return Core(
        start=_start(model, optimizer, rule),
        memory=_velocity if scenario.worker_momentum else _nothing,
        adversary=attack.init,
        work=_work(model, classes, scenario.data.batch_size, scenario.worker_momentum, attack.corrupt),
        forge=None if attack.forge is None else _forge(attack, rule, _context(model, scenario.data.batch_size)),
        update=_update(rule, optimizer, _context(model, scenario.data.batch_size)),
        evaluate=_evaluate(model),
    )


# The parts, each made once: functions made from equal parts are then the same functions, compiled once.
@lru_cache
def _attack(part: Component, n: int, byzantine: int) -> Attack:
    return ATTACKS[part.name](n, byzantine, **part.options())


@lru_cache
def _rule(part: Component, before: tuple[Component, ...], k: int, f: int) -> Aggregator:
    mixers = [partial(PRE[each.name], **each.options()) for each in before]
    return chained(partial(RULES[part.name], **part.options()), k, f, mixers)


@lru_cache
def _optimizer(part: Component) -> optax.GradientTransformation:
    return OPTIMIZERS[part.name](**part.options())


@lru_cache
def _model(part: Component, data: DataSource) -> Model:
    dataset = load(data)
    return MODELS[part.name](dataset.x.shape[1:], dataset.classes, **part.options())


def _velocity(d: int) -> Array:
    return jnp.zeros(d)


def _nothing(d: int) -> tuple[()]:
    return ()


@lru_cache
def _start(model: Model, optimizer: optax.GradientTransformation, rule: Aggregator) -> Callable[[World], Server]:
    @jax.jit
    def start(world: World) -> Server:
        params = model.init(derive(world.key, Purpose.INIT))
        return Server(params, optimizer.init(params), rule.init(len(params)), jnp.asarray(0))

    return start


@lru_cache
def _work(
    model: Model, classes: int, batch_size: int, beta: float, corrupt: Callable[[Array, Batch], Batch] | None
) -> Callable[..., tuple[Array, Any]]:
    @jax.jit
    def work(world: World, params: Array, memory: Any, worker: Array, job: Array) -> tuple[Array, Any]:
        draw = jax.random.randint(derive(world.key, Purpose.WORK, worker, job), (batch_size,), 0, world.sizes[worker])
        position = world.shards[worker, draw]
        batch = Batch(world.x[position], world.y[position], jnp.asarray(classes))
        if corrupt is not None:
            poisoned = corrupt(derive(world.key, Purpose.CORRUPT, worker, job), batch)
            lies = world.byzantine[worker]
            batch = jax.tree.map(lambda bad, good: jnp.where(lies, bad, good), poisoned, batch)
        gradient = jax.grad(model.loss)(params, batch.x, batch.y)
        if not beta:
            return gradient, memory
        velocity = beta * memory + (1 - beta) * gradient
        return velocity, velocity

    return work


@lru_cache
def _context(model: Model, batch_size: int) -> Callable[[World, Array, Array], Context]:
    """What the server knows beside the rows; its batch is drawn only where the rule asks for it."""

    def context(world: World, params: Array, key: Array) -> Context:
        if not len(world.own):
            return Context(key, params)

        def batch() -> tuple[Array, Array]:
            own = jax.random.fold_in(key, int(Purpose.SERVER_BATCH))
            position = world.own[jax.random.randint(own, (batch_size,), 0, len(world.own))]
            return world.x[position], world.y[position]

        return Context(
            key,
            params,
            gradient=lambda: jax.grad(model.loss)(params, *batch()),
            loss=lambda other: model.loss(other, *batch()),
        )

    return context


@lru_cache
def _forge(
    attack: Attack, rule: Aggregator, context: Callable[[World, Array, Array], Context]
) -> Callable[..., tuple[Array, Any]]:
    assert attack.forge is not None
    forge_rows = attack.forge

    @jax.jit
    def forge(
        world: World, step: Array, workers: Array, rows: Array, params: Array, rule_state: Any, state: Any
    ) -> tuple[Array, Any]:
        byzantine = world.byzantine[workers]
        # what the rule will draw, and the server's batch, the adversary can only guess
        guess = context(world, params, derive(world.key, Purpose.GUESS, step))
        view = View(rows, byzantine, params, lambda attempt: rule.apply(attempt, rule_state, guess)[0], step)
        forged, state = forge_rows(derive(world.key, Purpose.FORGE, step), view, state)
        # whatever an attack returns, honest rows are the honest workers'
        return jnp.where(byzantine[:, None], forged, rows), state

    return forge


@lru_cache
def _update(
    rule: Aggregator, optimizer: optax.GradientTransformation, context: Callable[[World, Array, Array], Context]
) -> Callable[..., tuple[Server, Update]]:
    @jax.jit
    def update(world: World, server: Server, workers: Array, rows: Array) -> tuple[Server, Update]:
        known = context(world, server.params, derive(world.key, Purpose.RULE, server.step))
        aggregate, rule_state, info = rule.apply(rows, server.rule, known)
        change, optimizer_state = optimizer.update(aggregate, server.optimizer, server.params)
        params = jnp.asarray(optax.apply_updates(server.params, change))

        byzantine = world.byzantine[workers]
        honest, _ = mean_of(rows, ~byzantine)
        norm, cosine, distance = _compared(aggregate, honest)
        seen = Update(
            aggregate_norm=norm,
            honest_cosine=cosine,
            honest_distance=jnp.where(byzantine.all(), jnp.nan, distance),
            byzantine_weight=jnp.nan if info.weights is None else jnp.where(byzantine, info.weights, 0).sum(),
            undecided=jnp.asarray(False if info.undecided is None else info.undecided),
        )
        return Server(params, optimizer_state, rule_state, server.step + 1), jax.tree.map(jnp.float32, seen)

    return update


def _compared(aggregate: Array, honest: Array) -> tuple[Array, Array, Array]:
    """Length of the aggregate, its cosine and its distance to the honest mean, right where squares leave float32."""
    vectors = (aggregate, honest, aggregate - honest)

    def measured(scale: Callable[[Array], Array | float]) -> tuple[Array, tuple[Array, Array, Array]]:
        scales = [scale(vector) for vector in vectors]
        one, other, gap = (vector / by for vector, by in zip(vectors, scales, strict=True))
        lengths = jnp.stack([jnp.linalg.norm(each) for each in (one, other, gap)])
        cosine = one @ other / (lengths[0] * lengths[1])
        return lengths, (lengths[0] * scales[0], cosine, lengths[2] * scales[2])

    lengths, straight = measured(lambda vector: 1.0)
    # looking for the largest values takes longer than all the rest, and is hardly ever needed
    usual = ((lengths > 1e-12) & (lengths < 1e18)).all()
    return jax.lax.cond(usual, lambda: straight, lambda: measured(_magnitude)[1])


def _magnitude(vector: Array) -> Array:
    """The power of two below the largest absolute value: dividing by it is exact. 1 for zeros and non-finite values."""
    largest = jnp.max(jnp.abs(vector))
    power = jnp.ldexp(jnp.ones_like(largest), jnp.frexp(largest)[1] - 1)
    return jnp.where((largest > 0) & jnp.isfinite(largest), power, 1)


# Samples that are evaluated at once: bounds the memory that the activations take.
EVALUATED_AT_ONCE = 500


@lru_cache
def _evaluate(model: Model) -> Callable[[World, Array], Evaluation]:
    def look(world: World, params: Array, positions: Array) -> tuple[Array, Array]:
        y = world.y[positions]
        logits = model.predict(params, world.x[positions])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y), jnp.argmax(logits, axis=-1) == y

    def mean_over(world: World, params: Array, positions: Array) -> tuple[Array, Array]:
        whole, rest = jnp.split(jnp.asarray(positions), [len(positions) // EVALUATED_AT_ONCE * EVALUATED_AT_ONCE])
        parts = [look(world, params, rest)] if len(rest) else []
        if len(whole):
            looked = jax.lax.map(lambda some: look(world, params, some), whole.reshape(-1, EVALUATED_AT_ONCE))
            parts.append(jax.tree.map(jnp.ravel, looked))
        losses, right = (jnp.concatenate(each) for each in zip(*parts, strict=True))
        return losses.mean(), right.mean()

    @jax.jit
    def evaluate(world: World, params: Array) -> Evaluation:
        return Evaluation(*mean_over(world, params, world.train), *mean_over(world, params, world.test))

    return evaluate
