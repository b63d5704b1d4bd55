"""The formulas of a run as pure functions; executors call them and contain no formula of their own."""

import bisect
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from aggregators import Aggregator, Context, Info
from aggregators.filters import Filter, Sent
from aggregators.kernels.means import mean_of
from aggregators.pre import chained
from attacks import Attack, View
from models import Model
from simulator.components import ATTACKS, FILTERS, MODELS, OPTIMIZERS, PRE, RULES, SCHEDULES, Component
from simulator.jobs import remembering, working
from simulator.keys import Purpose, derive
from simulator.parts import DataSource
from simulator.scenario import Scenario
from simulator.schedules import Schedule
from simulator.world import World, load

Array = jax.Array
Value = Any  # a scalar array; on the host a float, or a series of them


class Table(NamedTuple):
    """The last row of every worker: `rows` `[n, d]`, the `versions` `[n]` they were asked for from, who has one."""

    rows: Array
    versions: Array
    present: Array


class Server(NamedTuple):
    """What the parameter server holds: the model `params` `[d]`, the states of its parts, the number of updates so far.

    `filter`: None where there is none. `table`: the last row of every worker where the schedule keeps them, else None.
    """

    params: Array
    optimizer: Any
    rule: Any
    filter: Any
    table: Table | None
    step: Array


class Arrived(NamedTuple):
    """Whose rows are new in an update, `[r]`, and the versions that they were handed; worker -1 stands for no row."""

    workers: Any
    versions: Any


class Update(NamedTuple):
    """One update, looked at: scalars, NaN where they have no meaning.

    `aggregate_norm`: length of the aggregate. `honest_cosine`, `honest_distance`: of the aggregate to the mean of the
    honest rows, if there is one. `byzantine_weight`: the share the rule gave to Byzantine rows. `undecided`: 1 where
    the rule reached its limit of work and the aggregate is no answer, else 0. `age`: how many updates old the
    versions were that the rows were asked for from, on average over the rows that the rule was given. `accepted`: the
    share of the rows that the filter let through, 1 where there is none; a refused row is an aggregate of zeros.
    """

    aggregate_norm: Value
    honest_cosine: Value
    honest_distance: Value
    byzantine_weight: Value
    undecided: Value
    age: Value
    accepted: Value


class Evaluation(NamedTuple):
    """One model, looked at: mean losses and accuracies in [0, 1]."""

    train_loss: Value
    train_accuracy: Value
    test_loss: Value
    test_accuracy: Value


class Core(NamedTuple):
    """The functions of a scenario; r is the number of new rows of an update, n the number of workers.

    `start(world)` gives the `Server` before the first update. `work(world, params, worker, job)` gives the row `[d]` of
    a job. `remember(velocity, row)` gives the worker's velocity `[d]`, zero at first, which it sends in place of the
    row; None without worker momentum. `adversary(d)` is what the adversary keeps.
    `forge(world, step, arrived, rows [r, d], params, rule state, adversary state)` gives `(rows [r, d], adversary
    state)`, honest rows untouched; None where the attack forges nothing. `update(world, server, arrived, rows)` gives
    `(server, Update)`. `evaluate(world, params)` gives an `Evaluation`.
    """

    start: Callable[[World], Server]
    work: Callable[..., Array]
    remember: Callable[[Array, Array], Array] | None
    adversary: Callable[[int], Any]
    forge: Callable[..., tuple[Array, Any]] | None
    update: Callable[..., tuple[Server, Update]]
    evaluate: Callable[[World, Array], Evaluation]


def build(scenario: Scenario, seen: int) -> Core:
    """The core of a scenario for updates in which the rule sees `seen` rows.

    Scenarios that agree in a part share the compiled functions of that part. Raises ValueError where rule, attack and
    numbers of workers do not fit, or where a filter would see more than one row.
    """
    n = scenario.workers.total
    attack = _attack(scenario.attack, n, scenario.workers.byzantine)
    rule = _rule(scenario.rule, scenario.pre, seen, doubted(scenario, seen))
    model = _model(scenario.model, scenario.data)
    optimizer = _optimizer(scenario.optimizer)
    classes = load(scenario.data).classes
    context = _context(model, scenario.data.batch_size)
    judge = None if scenario.filter is None else _filter(scenario.filter, n, scenario.workers.declared)
    if judge is not None and seen != 1:
        raise ValueError(f"a filter judges single rows, and in an update of this schedule the rule sees {seen}")
    decides = schedule(scenario)
    showing = _showing(decides.sees, decides.buckets, decides.weight, seen)
    # an adversary that sees one row at a time remembers the others
    remembers = decides.sees == "table" or (decides.sees == "rows" and seen == 1)
    return Core(
        start=_start(model, optimizer, rule, judge, n if decides.sees == "table" else 0),
        work=working(model, classes, scenario.data.batch_size, scenario.local, attack.corrupt),
        remember=remembering(scenario.worker_momentum) if scenario.worker_momentum else None,
        adversary=_adversary(attack, n if remembers else 0),
        forge=None if attack.forge is None else _forge(attack, rule, context, showing, decides.sees == "table"),
        update=_update(
            rule, judge, optimizer, context, showing, scenario.local is not None and scenario.local.send == "model"
        ),
        evaluate=_evaluate(model),
    )


def schedule(scenario: Scenario) -> Schedule:
    """The schedule of a scenario. Raises ValueError for an option out of range."""
    return _schedule(scenario.schedule, scenario.workers.total, scenario.workers.declared)


def doubted(scenario: Scenario, seen: int) -> int:
    """The f that the rule is told of `seen` rows: all declared, if there are so many; 0 behind a filter."""
    return min(scenario.workers.declared, seen) if scenario.filter is None else 0


def least(scenario: Scenario) -> int:
    """The fewest rows, up to n, that the rule accepts with what stands before it; n where it accepts none."""
    n = scenario.workers.total

    def accepts(seen: int) -> bool:
        try:
            _rule(scenario.rule, scenario.pre, seen, doubted(scenario, n))
        except ValueError:
            return False
        return True

    return bisect.bisect_left(range(1, n), True, key=accepts) + 1


def message_bits(scenario: Scenario) -> int:
    """The bits of a model or row that travels: 32 for each parameter."""
    dataset, part = load(scenario.data), scenario.model

    def init(key: Array) -> Array:
        return MODELS[part.name](dataset.x.shape[1:], dataset.classes, **part.options()).init(key)

    # the factory inside too: of a model that does not fit into memory the size is known all the same
    return 32 * jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0))).shape[0]


# The parts, each made once: functions made from equal parts are then the same functions, compiled once.
@lru_cache
def _attack(part: Component, n: int, byzantine: int) -> Attack:
    return ATTACKS[part.name](n, byzantine, **part.options())


@lru_cache
def _schedule(part: Component, n: int, f: int) -> Schedule:
    return SCHEDULES[part.name](n, f, **part.options())


@lru_cache
def _rule(part: Component, before: tuple[Component, ...], k: int, f: int) -> Aggregator:
    mixers = [partial(PRE[each.name], **each.options()) for each in before]
    return chained(partial(RULES[part.name], **part.options()), k, f, mixers)


@lru_cache
def _filter(part: Component, n: int, f: int) -> Filter:
    return FILTERS[part.name](n, f, **part.options())


@lru_cache
def _optimizer(part: Component) -> optax.GradientTransformation:
    return OPTIMIZERS[part.name](**part.options())


@lru_cache
def _model(part: Component, data: DataSource) -> Model:
    dataset = load(data)
    return MODELS[part.name](dataset.x.shape[1:], dataset.classes, **part.options())


def _empty(n: int, d: int) -> Table:
    return Table(jnp.zeros((n, d)), jnp.zeros(n, jnp.int32), jnp.zeros(n, bool))


@lru_cache
def _adversary(attack: Attack, remembered: int) -> Callable[[int], Any]:
    """The attack's own state, and the last row of so many workers as they were sent."""
    return lambda d: (attack.init(d), _empty(remembered, d) if remembered else None)


@lru_cache
def _start(
    model: Model, optimizer: optax.GradientTransformation, rule: Aggregator, judge: Filter | None, kept: int
) -> Callable[[World], Server]:
    @jax.jit
    def start(world: World) -> Server:
        params = model.init(derive(world.key, Purpose.INIT))
        d = len(params)
        table = _empty(kept, d) if kept else None
        judging = None if judge is None else judge.init(params)
        return Server(params, optimizer.init(params), rule.init(d), judging, table, jnp.asarray(0))

    return start


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


class Showing(NamedTuple):
    """How new and kept rows become the `seen` rows that the rule is given.

    `shown(rows [m, d], their workers [m], their ages [m])` gives these, `[seen, d]`.
    """

    sees: str
    buckets: int
    seen: int
    shown: Callable[[Array, Array, Array], Array]


@lru_cache
def _showing(sees: str, buckets: int, weight: Callable[[Array], Array] | None, seen: int) -> Showing:
    def shown(rows: Array, workers: Array, ages: Array) -> Array:
        if weight is not None:
            rows = rows * weight(ages.astype(rows.dtype))[:, None]
        return _bucket_means(rows, workers, buckets)[0] if sees == "buckets" else rows

    return Showing(sees, buckets, seen, shown)


def _bucket_means(rows: Array, workers: Array, buckets: int) -> tuple[Array, Array]:
    """The mean of the rows in each bucket `[buckets, d]`, and the share of each row in its own `[r]`."""
    # no row, worker -1, falls into one bucket more
    place = jnp.where(workers < 0, buckets, workers % buckets)
    counts = jax.ops.segment_sum(jnp.ones(len(rows), rows.dtype), place, buckets + 1)
    shares = 1 / counts[place]
    return jax.ops.segment_sum(rows, place, buckets + 1)[:buckets] / counts[:buckets, None], shares


def _entered(table: Table, arrived: Arrived, rows: Array) -> Table:
    return Table(
        table.rows.at[arrived.workers].set(rows),
        table.versions.at[arrived.workers].set(arrived.versions),
        table.present.at[arrived.workers].set(True),
    )


@lru_cache
def _forge(
    attack: Attack,
    rule: Aggregator,
    context: Callable[[World, Array, Array], Context],
    how: Showing,
    kept: bool,
) -> Callable[..., tuple[Array, Any]]:
    assert attack.forge is not None
    forge_rows = attack.forge

    @jax.jit
    def forge(
        world: World, step: Array, arrived: Arrived, rows: Array, params: Array, rule_state: Any, state: Any
    ) -> tuple[Array, Any]:
        own, table = state
        lies = world.byzantine[arrived.workers] & (arrived.workers >= 0)
        # what the rule will draw, and the server's batch, the adversary can only guess
        guess = context(world, params, derive(world.key, Purpose.GUESS, step))
        key = derive(world.key, Purpose.FORGE, step)

        def judged(given: Array) -> Array:
            return rule.apply(given, rule_state, guess)[0]

        if table is None:
            byzantine = lies | (arrived.workers < 0)

            def aggregate(attempt: Array) -> Array:
                return judged(how.shown(attempt, arrived.workers, step - arrived.versions))

            view = View(rows, byzantine, params, aggregate, step)
            forged, own = forge_rows(key, view, own)
            # whatever an attack returns, honest rows are the honest workers'
            return jnp.where(lies[:, None], forged, rows), (own, None)

        table = _entered(table, arrived, rows)
        everyone = jnp.arange(len(table.present))
        workers = jnp.nonzero(table.present, size=how.seen)[0] if kept and how.seen < len(everyone) else everyone
        last = jax.tree.map(lambda each: each[workers], table)
        fresh = jnp.zeros(len(everyone), bool).at[arrived.workers].set(lies)[workers]

        def aggregate(attempt: Array) -> Array:
            # of the liars' rows only the new ones can still be chosen
            asked = jnp.where(fresh[:, None], attempt, last.rows)
            if kept:
                return judged(how.shown(asked, workers, step - last.versions))
            return judged(how.shown(asked[arrived.workers], arrived.workers, step - arrived.versions))

        # a worker of which nothing was seen yet is none of the honest ones
        view = View(last.rows, world.byzantine[workers] | ~last.present, params, aggregate, step)
        forged, own = forge_rows(key, view, own)
        sent = jnp.where(lies[:, None], forged[jnp.searchsorted(workers, arrived.workers)], rows)
        return sent, (own, table._replace(rows=table.rows.at[arrived.workers].set(sent)))

    return forge


@lru_cache
def _update(
    rule: Aggregator,
    judge: Filter | None,
    optimizer: optax.GradientTransformation,
    context: Callable[[World, Array, Array], Context],
    how: Showing,
    models: bool,
) -> Callable[..., tuple[Server, Update]]:
    @jax.jit
    def update(world: World, server: Server, arrived: Arrived, rows: Array) -> tuple[Server, Update]:
        table, workers, versions = server.table, arrived.workers, arrived.versions
        if table is not None:
            table = _entered(table, arrived, rows)
            everyone = jnp.arange(len(table.present))
            workers = everyone if how.seen == len(everyone) else jnp.nonzero(table.present, size=how.seen)[0]
            rows, versions = table.rows[workers], table.versions[workers]
        there = workers >= 0
        ages = server.step - versions
        known = context(world, server.params, derive(world.key, Purpose.RULE, server.step))

        def applied(given: Array) -> tuple[Array, Info, Array, Any, Any]:
            aggregate, rule_state, info = rule.apply(how.shown(given, workers, ages), server.rule, known)
            descent = server.params - aggregate if models else aggregate
            change, optimizer_state = optimizer.update(descent, server.optimizer, server.params)
            return aggregate, info, jnp.asarray(optax.apply_updates(server.params, change)), optimizer_state, rule_state

        def stayed(given: Array) -> tuple[Array, Info, Array, Any, Any]:
            nothing = jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), jax.eval_shape(applied, given)[:2])
            return *nothing, server.params, server.optimizer, server.rule

        if judge is None:
            accepted, filter_state, new = jnp.ones(()), None, applied(rows)
        else:
            own = context(world, server.params, derive(world.key, Purpose.FILTER, server.step))
            row, accepted, filter_state = judge.judge(rows[0], Sent(workers[0], ages[0]), own, server.filter)
            new = jax.lax.cond(accepted, applied, stayed, row[None])
        aggregate, info, params, optimizer_state, rule_state = new

        byzantine = world.byzantine[workers] & there
        weights = info.weights
        if weights is not None and how.sees == "buckets":
            weights = weights[workers % how.buckets] * _bucket_means(rows, workers, how.buckets)[1]
        honest, _ = mean_of(rows, ~byzantine & there)
        norm, cosine, distance = _compared(aggregate, honest)
        seen = Update(
            aggregate_norm=norm,
            honest_cosine=cosine,
            honest_distance=jnp.where((byzantine | ~there).all(), jnp.nan, distance),
            byzantine_weight=jnp.nan if weights is None else jnp.where(byzantine, weights, 0).sum(),
            undecided=jnp.asarray(False if info.undecided is None else info.undecided),
            age=jnp.where(there, ages, 0).sum() / there.sum(),
            accepted=accepted,
        )
        after = Server(params, optimizer_state, rule_state, filter_state, table, server.step + 1)
        return after, jax.tree.map(jnp.float32, seen)

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
