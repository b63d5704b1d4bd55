"""The two ends of an update: what the adversary makes of the rows, and what the parameter server does with them."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from aggregators import Aggregator, Context, Info
from aggregators.filters import Filter, Sent
from aggregators.kernels.means import mean_of
from attacks import View
from models import Model
from simulator.adversary import Adversary, Hidden, Lying
from simulator.diagnostics import Update, compared
from simulator.keys import Purpose, derive
from simulator.normalising import normalised
from simulator.world import World

Array = jax.Array
# (rows [m, d], state, context, samples [m] behind each row) -> (aggregate [d], state, info)
Apply = Callable[..., tuple[Array, Any, Info]]


class Table(NamedTuple):
    """The last row of every worker: `rows` `[n, d]`, the `versions` `[n]` they were asked for from, who has one.

    `lied` `[n]`: whose row was a liar's when it came.
    """

    rows: Array
    versions: Array
    present: Array
    lied: Array


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


def _empty(n: int, d: int) -> Table:
    return Table(jnp.zeros((n, d)), jnp.zeros(n, jnp.int32), jnp.zeros(n, bool), jnp.zeros(n, bool))


@lru_cache
def remembered_by(adversary: Adversary, remembered: int) -> Callable[[int], Any]:
    """The attacks' own states, and the last row of so many workers as they were sent.

    An adversary that does not see everything also keeps the rows as its own workers computed them.
    """
    kept = remembered if adversary.curious else 0
    return lambda d: (
        adversary.init(d),
        _empty(remembered, d) if remembered else None,
        jnp.zeros((kept, d)) if kept else None,
    )


@lru_cache
def applying(rule: Aggregator, weights: str) -> Apply:
    """The rule in use; where rows weigh by `samples`, its weights times their numbers: FedAvg, if it is the average.

    The sum of the weights stays what it is.
    """
    if weights == "equal":
        return lambda rows, state, context, samples: rule.apply(rows, state, context)

    def apply(rows: Array, state: Any, context: Context, samples: Array) -> tuple[Array, Any, Info]:
        aggregate, state, info = rule.apply(rows, state, context)
        weights = info.weights
        assert weights is not None
        shared = weights * samples
        total = shared.sum()
        shared = jnp.where(total > 0, shared * (weights.sum() / total), weights).astype(rows.dtype)
        # a row without weight may be infinite
        sound = jnp.where((shared != 0)[:, None], rows, 0)
        weighted = jnp.matmul(shared, sound, precision=jax.lax.Precision.HIGHEST)
        if info.undecided is not None:
            weighted = jnp.where(info.undecided, aggregate, weighted)
        return weighted, state, info._replace(weights=shared)

    return apply


@lru_cache
def starting(
    model: Model, optimizer: optax.GradientTransformation, rule: Aggregator, judge: Filter | None, kept: int
) -> Callable[[World], Server]:
    @jax.jit
    def start(world: World) -> Server:
        params = model.init(derive(world.start_key, Purpose.INIT))
        d = len(params)
        table = _empty(kept, d) if kept else None
        judging = None if judge is None else judge.init(params)
        return Server(params, optimizer.init(params), rule.init(d), judging, table, jnp.asarray(0))

    return start


@lru_cache
def knowing(model: Model, batch_size: int) -> Callable[[World, Array, Array], Context]:
    """What the server knows beside the rows; its batch is drawn only where the rule asks for it."""

    def context(world: World, params: Array, key: Array) -> Context:
        if not len(world.own):
            return Context(key, params)

        def batch() -> tuple[Array, Array]:
            own = jax.random.fold_in(key, int(Purpose.SERVER_BATCH))
            position = world.own[jax.random.randint(own, (batch_size,), 0, len(world.own))]
            return normalised(world.scaling, world.x[position]), world.y[position]

        return Context(
            key,
            params,
            gradient=lambda: jax.grad(model.loss)(params, *batch()),
            loss=lambda other: model.loss(other, *batch()),
        )

    return context


@lru_cache
def harming(model: Model, batch_size: int) -> Callable[[World, Array, Array, Array], Array]:
    """The loss of a model by which an adversary measures harm: on a batch of the samples of these workers, `[n]`."""

    def own_loss(world: World, step: Array, whose: Array, params: Array) -> Array:
        one, which = jax.random.split(derive(world.key, Purpose.HARM, step))
        workers = jax.random.choice(one, len(whose), (batch_size,), p=whose / jnp.maximum(whose.sum(), 1))
        positions = world.shards[workers, jax.random.randint(which, (batch_size,), 0, world.sizes[workers])]
        return model.loss(params, normalised(world.scaling, world.x[positions]), world.y[positions])

    return own_loss


class Showing(NamedTuple):
    """How new and kept rows become the `seen` rows that the rule is given.

    `shown(rows [m, d], their workers [m], their ages [m])` gives these, `[seen, d]`.
    """

    sees: str
    buckets: int
    seen: int
    shown: Callable[[Array, Array, Array], Array]


@lru_cache
def showing(sees: str, buckets: int, weight: Callable[[Array], Array] | None, seen: int) -> Showing:
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


# (world, step, arrived) -> which of the rows that arrived are lies, [r]
Lied = Callable[[World, Array, Arrived], Array]


@lru_cache
def telling(adversary: Adversary, lies: Lying, changing: bool) -> Lied:
    """Which rows are lies: those of workers that lie in the update, or had poisoned data when they trained.

    Training counts for the update whose model the worker was handed. `changing`: whether others lie in every update.
    """

    def lied(world: World, step: Array, arrived: Arrived) -> Array:
        workers, there = arrived.workers, arrived.workers >= 0
        now = lies(world, step)[workers]
        if not changing:
            return there & (now >= 0)
        handed = jnp.where(there, arrived.versions, step)

        def of_version(version: Array, found: Array) -> Array:
            return found | ((handed == version) & adversary.poisons(lies(world, version)[workers]))

        # who lies is drawn for all workers at once: once for each version, of which there are few
        poisoned = jax.lax.fori_loop(handed.min(), handed.max() + 1, of_version, jnp.zeros(handed.shape, bool))
        return there & (adversary.sends(now) | poisoned)

    return lied


def _entered(table: Table, arrived: Arrived, rows: Array, lied: Array) -> Table:
    return Table(
        table.rows.at[arrived.workers].set(rows),
        table.versions.at[arrived.workers].set(arrived.versions),
        table.present.at[arrived.workers].set(True),
        table.lied.at[arrived.workers].set(lied),
    )


@lru_cache
def forging(
    adversary: Adversary,
    lies: Lying,
    lied: Lied,
    apply: Apply,
    context: Callable[[World, Array, Array], Context],
    own_loss: Callable[[World, Array, Array, Array], Array],
    how: Showing,
    kept: bool,
) -> Callable[..., tuple[Array, Any]]:
    assert adversary.forge is not None
    forge_rows = adversary.forge

    @jax.jit
    def forge(
        world: World, step: Array, arrived: Arrived, rows: Array, params: Array, rule_state: Any, state: Any
    ) -> tuple[Array, Any]:
        own, table, computed = state
        ranks = lies(world, step)
        new = jnp.where(arrived.workers >= 0, ranks[arrived.workers], -1)
        # what the rule will draw, and the server's batch, the adversary can only guess
        guess = context(world, params, derive(world.key, Purpose.GUESS, step))
        key = derive(world.key, Purpose.FORGE, step)

        def losing(first: Any, end: Any) -> Callable[[Array], Array]:
            return partial(own_loss, world, step, (ranks >= first) & (ranks < end))

        seen = {"params": params, "loss": losing(0, len(ranks)), "step": step}

        def judged(given: Array, workers: Array) -> Array:
            return apply(given, rule_state, guess, world.sizes[workers])[0]

        if table is None:

            def asking(known: Array) -> Callable[[Array], Array]:
                return lambda attempt: judged(
                    how.shown(attempt, arrived.workers, step - arrived.versions), arrived.workers
                )

            there = arrived.workers >= 0
            # what only fills up an update is no row: 0, of worker -1, neither honest nor a liar's
            real = jnp.where(there[:, None], rows, 0)
            known = there & (new < 0) & ~lied(world, step, arrived)
            view = View(real, new >= 0, known, arrived.workers, aggregate=asking(real), new=there, **seen)
            forged, own = forge_rows(key, view, new, real, Hidden(asking, losing), own)
            # whatever an attack returns, honest rows are the honest workers'
            return jnp.where((new >= 0)[:, None], forged, rows), (own, None, None)

        table = _entered(table, arrived, rows, lied(world, step, arrived))
        everyone = jnp.arange(len(table.present))
        workers = jnp.nonzero(table.present, size=how.seen)[0] if kept and how.seen < len(everyone) else everyone
        last = jax.tree.map(lambda each: each[workers], table)
        fresh = jnp.zeros(len(everyone), bool).at[arrived.workers].set(True)[workers]
        if computed is not None:
            computed = computed.at[arrived.workers].set(rows)

        def asking(known: Array) -> Callable[[Array], Array]:
            def aggregate(attempt: Array) -> Array:
                # of the liars' rows only the new ones can still be chosen
                asked = jnp.where((fresh & (mine >= 0))[:, None], attempt, known)
                if kept:
                    return judged(how.shown(asked, workers, step - last.versions), workers)
                new_rows = how.shown(asked[arrived.workers], arrived.workers, step - arrived.versions)
                return judged(new_rows, arrived.workers)

            return aggregate

        # a worker of which nothing was seen yet is none of the honest ones, nor is one whose last row is a lie
        mine = jnp.where(last.present, ranks[workers], -1)
        known = last.present & (mine < 0) & ~last.lied
        whose = jnp.where(last.present, workers, -1)
        view = View(last.rows, mine >= 0, known, whose, aggregate=asking(last.rows), new=fresh, **seen)
        computed_rows = last.rows if computed is None else computed[workers]
        forged, own = forge_rows(key, view, mine, computed_rows, Hidden(asking, losing), own)
        sent = jnp.where((new >= 0)[:, None], forged[jnp.searchsorted(workers, arrived.workers)], rows)
        return sent, (own, table._replace(rows=table.rows.at[arrived.workers].set(sent)), computed)

    return forge


@lru_cache
def updating(
    apply: Apply,
    judge: Filter | None,
    optimizer: optax.GradientTransformation,
    context: Callable[[World, Array, Array], Context],
    lied: Lied,
    how: Showing,
    models: bool,
) -> Callable[..., tuple[Server, Update]]:
    @jax.jit
    def update(world: World, server: Server, arrived: Arrived, rows: Array) -> tuple[Server, Update]:
        table, workers, versions = server.table, arrived.workers, arrived.versions
        byzantine = lied(world, server.step, arrived)
        if table is not None:
            table = _entered(table, arrived, rows, byzantine)
            everyone = jnp.arange(len(table.present))
            workers = everyone if how.seen == len(everyone) else jnp.nonzero(table.present, size=how.seen)[0]
            rows, versions, byzantine = table.rows[workers], table.versions[workers], table.lied[workers]
        there = workers >= 0
        ages = server.step - versions
        known = context(world, server.params, derive(world.key, Purpose.RULE, server.step))
        samples = world.sizes[workers]

        def applied(given: Array) -> tuple[Array, Info, Array, Any, Any]:
            aggregate, rule_state, info = apply(how.shown(given, workers, ages), server.rule, known, samples)
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

        weights = info.weights
        if weights is not None and how.sees == "buckets":
            weights = weights[workers % how.buckets] * _bucket_means(rows, workers, how.buckets)[1]
        honest, _ = mean_of(rows, ~byzantine & there)
        norm, cosine, distance = compared(aggregate, honest)
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
