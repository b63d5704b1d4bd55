"""The two ends of an update: what the adversary makes of the rows, and what the parameter server does with them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from byzax.aggregators import Aggregator, Context, Info
from byzax.aggregators.filters import Filter, Sent
from byzax.aggregators.kernels.means import mean_of
from byzax.attacks import Answer, View
from byzax.models import Model
from byzax.simulator.adversary import Adversary, Hidden, Lying
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.worker import Local
from byzax.simulator.diagnostics import Decision, Diagnostics, compared
from byzax.simulator.jobs import Keys, Making
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.normalising import apply_scaling
from byzax.simulator.training import Memory, batches_of
from byzax.simulator.world import World

Array = jax.Array
# (rows [m, d], state, `Known`, samples [m] behind each row) -> (aggregate [d], state, info)
Apply = Callable[..., tuple[Array, Any, Info]]
# (params [d], state of the optimizer, aggregate [d]) -> (params [d], state)
Move = Callable[[Array, Any, Array], tuple[Array, Any]]


class Table(NamedTuple):
    """The last row of every worker: `rows` `[n, d]`, the `versions` `[n]` they were asked for from, who has one.

    `lied` `[n]`: whose row was a liar's when it came. `samples` `[n]`: how many each worker then said it holds.
    """

    rows: Array
    versions: Array
    present: Array
    lied: Array
    samples: Array


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


def shown(server: Server) -> Server:
    """What everybody may see of a server: all but the filter's state and the rows that are kept."""
    return server._replace(filter=None, table=None)


class Arrived(NamedTuple):
    """Whose rows are new in an update, `[r]`, and the versions that they were handed; worker -1 stands for no row.

    `gone` `[n]`: whose row has left the table; None for nobody's.
    """

    workers: Any
    versions: Any
    gone: Any = None


def _empty(n: int, d: int) -> Table:
    return Table(jnp.zeros((n, d)), jnp.zeros(n, jnp.int32), jnp.zeros(n, bool), jnp.zeros(n, bool), jnp.zeros(n))


@compiled_once
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


class OwnRow(NamedTuple):
    """The server's own row, made the way workers make theirs, on the samples kept for validation.

    `start(world, d)`: what it remembers before the first one. `row(world, params [d], step, key, memory)` gives
    `(memory, row [d])`.
    """

    start: Callable[[World, int], Any]
    row: Callable[..., tuple[Any, Array]]


@compiled_once
def owning(made: Making, memory: Memory | None, local: Local | None, batch_size: int) -> OwnRow:
    """The server's own row, `made` and remembered like those of workers.

    With epochs it takes as many steps as a worker does on average: the server's samples may be many more or fewer.
    """

    def as_worker(world: World) -> World:
        # the only worker of a world of its own
        return world._replace(shards=world.own[None], sizes=jnp.array([len(world.own)]))

    def row(world: World, params: Array, step: Array, key: Array, kept: Any) -> tuple[Any, Array]:
        draw = jax.random.fold_in(key, int(Purpose.SERVER_BATCH))
        others = (Purpose.AUGMENT, Purpose.CORRUPT, Purpose.DROPOUT)
        keys = Keys(draw, *(jax.random.fold_in(key, int(purpose)) for purpose in others))
        here, given, only = as_worker(world), (), {}
        if memory is not None and memory.handed is not None:
            kept = memory.handed(kept, params)
            given = (kept,)
        if local is not None and local.epochs is not None:
            steps = local.epochs * batches_of(local, world.sizes, batch_size)
            only = {"steps": jnp.round(steps.mean()).astype(steps.dtype)}
        first = jnp.asarray(0)
        sent = made(here, params, first, keys, step, *given, **only)
        return (kept, sent) if memory is None else memory.remember(here, kept, sent, first, draw)

    def start(world: World, d: int) -> Any:
        return None if memory is None else memory.start(as_worker(world), d)

    return OwnRow(start, row)


class Known(NamedTuple):
    """The server's knowledge beside the rows, and its own row: `own(memory)` gives `(memory, row)`."""

    context: Context
    own: Callable[[Any], tuple[Any, Array]] | None


def _asked(
    known: Known, state: Any, remembers: bool, when: Callable[[Any], Array] | None = None
) -> tuple[Context, Any, Callable[[Any], Any]]:
    """The context and the state of who may ask for the server's own row, and what makes the new state of its own.

    Where the server `remembers` its rows, what it does stands beside the state, and the row is made here: always, or
    where `when(state)` says so.
    """
    if not remembers:
        return known.context, state, lambda new: new
    assert known.own is not None
    own, memory = state
    if when is None:
        memory, row = known.own(memory)
    else:
        _, shape = jax.eval_shape(known.own, memory)
        memory, row = jax.lax.cond(when(own), known.own, lambda memory: (memory, jnp.zeros_like(shape)), memory)
    return known.context._replace(gradient=lambda: row), own, lambda new: (new, memory)


def _made(known: Known, memory: Any) -> Known:
    """The same knowledge with the server's own row made already, for a rule that is asked many times."""
    assert known.own is not None
    _, row = known.own(memory)
    return Known(known.context._replace(gradient=lambda: row), lambda memory: (memory, row))


@compiled_once
def applying(rule: Aggregator, weights: str, remembers: bool) -> Apply:
    """The rule in use; where rows weigh by `samples`, its weights times their numbers: FedAvg, if it is the average.

    The sum of the weights stays what it is. `remembers`: whether the server remembers its own rows for the rule.
    """

    def plain(rows: Array, state: Any, known: Known, samples: Array) -> tuple[Array, Any, Info]:
        context, own, put = _asked(known, state, remembers)
        aggregate, after, info = rule.apply(rows, own, context)
        return aggregate, put(after), info

    if weights == "equal":
        return plain

    def apply(rows: Array, state: Any, known: Known, samples: Array) -> tuple[Array, Any, Info]:
        aggregate, state, info = plain(rows, state, known, samples)
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


@compiled_once
def starting(
    model: Model,
    optimizer: optax.GradientTransformation,
    rule: Aggregator,
    judge: Filter | None,
    kept: int,
    own: OwnRow,
    rule_remembers: bool,
    filter_remembers: bool,
) -> Callable[[World], Server]:
    @jax.jit
    def start(world: World) -> Server:
        params = model.init(derive(world.start_key, Purpose.INIT))
        d = len(params)
        table = _empty(kept, d) if kept else None
        judging = None if judge is None else judge.init(params)
        deciding = rule.init(d)
        if rule_remembers:
            deciding = (deciding, own.start(world, d))
        if filter_remembers:
            judging = (judging, own.start(world, d))
        return Server(params, optimizer.init(params), deciding, judging, table, jnp.asarray(0))

    return start


@compiled_once
def moving(optimizer: optax.GradientTransformation, models: bool) -> Move:
    """A function that applies an aggregate to the model; `models`: where it is itself a model, and no change."""

    def moved(params: Array, state: Any, aggregate: Array) -> tuple[Array, Any]:
        descent = params - aggregate if models else aggregate
        change, state = optimizer.update(descent, state, params)
        return jnp.asarray(optax.apply_updates(params, change)), state

    return moved


@compiled_once
def knowing(model: Model, batch_size: int, own: OwnRow, move: Move) -> Callable[[World, Server, Array, Array], Known]:
    """What the server knows beside the rows, before update `step`; it draws only what it is asked for."""

    def known(world: World, server: Server, step: Array, key: Array) -> Known:
        def after(aggregate: Array) -> Array:
            return move(server.params, server.optimizer, aggregate)[0]

        if not len(world.own):
            return Known(Context(key, server.params, after=after), None)

        def made(memory: Any) -> tuple[Any, Array]:
            return own.row(world, server.params, step, key, memory)

        def loss(params: Array) -> Array:
            draw = jax.random.fold_in(key, int(Purpose.SERVER_BATCH))
            position = world.own[jax.random.randint(draw, (batch_size,), 0, len(world.own))]
            return model.loss(params, apply_scaling(world.scaling, world.x[position]), world.y[position])

        return Known(Context(key, server.params, lambda: made(None)[1], loss, after), made)

    return known


@compiled_once
def harming(model: Model, batch_size: int) -> Callable[[World, Array, Array, Array], Array]:
    """The loss of a model by which an adversary measures harm: on a batch of the samples of these workers, `[n]`."""

    def own_loss(world: World, step: Array, whose: Array, params: Array) -> Array:
        one, which = jax.random.split(derive(world.key, Purpose.HARM, step))
        workers = jax.random.choice(one, len(whose), (batch_size,), p=whose / jnp.maximum(whose.sum(), 1))
        positions = world.shards[workers, jax.random.randint(which, (batch_size,), 0, world.sizes[workers])]
        return model.loss(params, apply_scaling(world.scaling, world.x[positions]), world.y[positions])

    return own_loss


class Showing(NamedTuple):
    """How new and kept rows become the `seen` rows that the rule is given.

    `shown(rows [m, d], their workers [m], their ages [m])` gives these, `[seen, d]`. `shares(weights [seen], workers
    [m])` gives what each row has of the weights of what the rule saw, `[m]`; `scale(ages [m])` what it was multiplied
    by before, `[m]`.
    """

    sees: str
    seen: int
    shown: Callable[[Array, Array, Array], Array]
    shares: Callable[[Array, Array], Array]
    scale: Callable[[Array], Array]


@compiled_once
def showing(sees: str, buckets: int, weight: Callable[[Array], Array] | None, seen: int) -> Showing:
    def scale(ages: Array) -> Array:
        ages = jnp.asarray(ages).astype(float)
        return jnp.ones_like(ages) if weight is None else weight(ages)

    def shown(rows: Array, workers: Array, ages: Array) -> Array:
        if weight is not None:
            rows = rows * weight(ages.astype(rows.dtype))[:, None]
        return _bucket_means(rows, workers, buckets) if sees == "buckets" else rows

    def shares(weights: Array, workers: Array) -> Array:
        if sees != "buckets":
            return weights
        place, counts = _in_buckets(workers, buckets)
        return jnp.where(workers < 0, 0, weights[workers % buckets] / counts[place].astype(weights.dtype))

    return Showing(sees, seen, shown, shares, scale)


def _in_buckets(workers: Array, buckets: int) -> tuple[Array, Array]:
    """The bucket of each row `[r]` and the number of rows in each `[buckets + 1]`; the last is for what is no row."""
    place = jnp.where(workers < 0, buckets, workers % buckets)
    return place, jax.ops.segment_sum(jnp.ones(len(workers), jnp.float32), place, buckets + 1)


def _bucket_means(rows: Array, workers: Array, buckets: int) -> Array:
    """The mean of the rows in each bucket `[buckets, d]`."""
    place, counts = _in_buckets(workers, buckets)
    return jax.ops.segment_sum(rows, place, buckets + 1)[:buckets] / counts[:buckets, None].astype(rows.dtype)


# (world, step, arrived) -> which of the rows that arrived are lies, [r]
Lied = Callable[[World, Array, Arrived], Array]


@compiled_once
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


# (world, step, workers [m]) -> the samples that each says it holds, [m]
Counting = Callable[[World, Array, Array], Array]


@compiled_once
def counting(adversary: Adversary, lies: Lying) -> Counting:
    """The numbers of samples that workers hold, or say they hold."""

    def counts(world: World, step: Array, workers: Array) -> Array:
        held = world.sizes[workers]
        if adversary.claim is None:
            return held
        return adversary.claim(held.astype(float), jnp.where(workers >= 0, lies(world, step)[workers], -1), step)

    return counts


def _entered(table: Table, arrived: Arrived, rows: Array, lied: Array, samples: Array) -> Table:
    present = table.present if arrived.gone is None else table.present & jnp.logical_not(arrived.gone)
    return Table(
        table.rows.at[arrived.workers].set(rows),
        table.versions.at[arrived.workers].set(arrived.versions),
        present.at[arrived.workers].set(True),
        table.lied.at[arrived.workers].set(lied),
        table.samples.at[arrived.workers].set(samples.astype(table.samples.dtype)),
    )


@compiled_once
def forging(
    adversary: Adversary,
    lies: Lying,
    lied: Lied,
    apply: Apply,
    context: Callable[[World, Server, Array, Array], Known],
    move: Move,
    own_loss: Callable[[World, Array, Array, Array], Array],
    counts: Counting,
    how: Showing,
    kept: bool,
    models: bool,
    weighed: bool,
    asks_own: bool,
    remembers: bool,
    rate: Any,
) -> Callable[..., tuple[Array, Any]]:
    """The adversary in an update. It sees descents: where rows are `models`, their way down from the server's model.

    `weighed`: whether rows weigh by samples. `asks_own`: whether the rule asks for the server's own row; `remembers`:
    whether the server remembers these. `rate`: the server's, a number or a function of the step.
    """
    assert adversary.forge is not None
    forge_rows = adversary.forge

    @jax.jit
    def forge(
        world: World, step: Array, arrived: Arrived, rows: Array, server: Server, state: Any
    ) -> tuple[Array, Any]:
        own, table, computed = state
        ranks = lies(world, step)
        new = jnp.where(arrived.workers >= 0, ranks[arrived.workers], -1)
        # what the rule will draw, and the server's batch, the adversary can only guess
        guess = context(world, server, step, derive(world.key, Purpose.GUESS, step))
        if asks_own:
            guess = _made(guess, server.rule[1] if remembers else None)
        key = derive(world.key, Purpose.FORGE, step)

        def losing(first: Any, end: Any) -> Callable[[Array], Array]:
            return partial(own_loss, world, step, (ranks >= first) & (ranks < end))

        def turned(rows: Array) -> Array:
            """Models as descents, and descents as models."""
            return server.params - rows if models else rows

        def after(aggregate: Array) -> Array:
            return move(server.params, server.optimizer, turned(aggregate))[0]

        now = jnp.float32(rate(step) if callable(rate) else rate)
        seen = {"params": server.params, "loss": losing(0, len(ranks)), "step": step, "rate": now, "after": after}
        arrived_samples = counts(world, step, arrived.workers)

        def weighing(samples: Array) -> Array:
            return samples.astype(jnp.float32) if weighed else jnp.ones(samples.shape, jnp.float32)

        def judged(rows: Array, workers: Array, versions: Array, samples: Array) -> Answer:
            ages = step - versions
            given = how.shown(turned(rows), workers, ages)
            aggregate, _, info = apply(given, server.rule, guess, samples)
            weights = info.weights
            if weights is not None:
                weights = how.shares(weights, workers) * how.scale(ages).astype(weights.dtype)
            return Answer(turned(aggregate), weights, rows)

        if table is None:

            def asking(known: Array) -> Callable[[Array], Answer]:
                return lambda attempt: judged(attempt, arrived.workers, arrived.versions, arrived_samples)

            there = arrived.workers >= 0
            # what only fills up an update is no row: 0, of worker -1, neither honest nor a liar's
            real = jnp.where(there[:, None], turned(rows), 0)
            known = there & (new < 0) & ~lied(world, step, arrived)
            seen["counts"] = jnp.where(there, weighing(arrived_samples), 0)
            view = View(real, new >= 0, known, arrived.workers, ask_rule=asking(real), new=there, **seen)
            forged, own = forge_rows(key, view, new, real, Hidden(asking, losing), own)
            # whatever an attack returns, honest rows are the honest workers'
            return jnp.where((new >= 0)[:, None], turned(forged), rows), (own, None, None)

        table = _entered(table, arrived, rows, lied(world, step, arrived), arrived_samples)
        everyone = jnp.arange(len(table.present))
        workers = jnp.nonzero(table.present, size=how.seen)[0] if kept and how.seen < len(everyone) else everyone
        last = jax.tree.map(lambda each: each[workers], table)
        fresh = jnp.zeros(len(everyone), bool).at[arrived.workers].set(True)[workers]
        if computed is not None:
            computed = computed.at[arrived.workers].set(rows)

        def asking(known: Array) -> Callable[[Array], Answer]:
            def answer(attempt: Array) -> Answer:
                # of the liars' rows only the new ones can still be chosen
                tried = jnp.where((fresh & (mine >= 0))[:, None], attempt, known)
                if kept:
                    return judged(tried, workers, last.versions, last.samples)
                found = judged(tried[arrived.workers], arrived.workers, arrived.versions, arrived_samples)
                if found.weights is None:
                    return found._replace(rows=tried)
                weights = jnp.zeros(len(workers), found.weights.dtype).at[arrived.workers].set(found.weights)
                return Answer(found.aggregate, weights, tried)

            return answer

        # a worker of which nothing was seen yet is none of the honest ones, nor is one whose last row is a lie
        mine = jnp.where(last.present, ranks[workers], -1)
        known = last.present & (mine < 0) & ~last.lied
        whose = jnp.where(last.present, workers, -1)
        seen["counts"] = jnp.where(last.present, weighing(last.samples), 0)
        there = last.present[:, None]
        last_rows = jnp.where(there, turned(last.rows), 0)
        view = View(last_rows, mine >= 0, known, whose, ask_rule=asking(last_rows), new=fresh, **seen)
        computed_rows = last_rows if computed is None else jnp.where(there, turned(computed[workers]), 0)
        forged, own = forge_rows(key, view, mine, computed_rows, Hidden(asking, losing), own)
        sent = jnp.where((new >= 0)[:, None], turned(forged[jnp.searchsorted(workers, arrived.workers)]), rows)
        return sent, (own, table._replace(rows=table.rows.at[arrived.workers].set(sent)), computed)

    return forge


@compiled_once
def updating(
    apply: Apply,
    judge: Filter | None,
    context: Callable[[World, Server, Array, Array], Known],
    move: Move,
    lied: Lied,
    counts: Counting,
    how: Showing,
    filter_remembers: bool,
) -> Callable[..., tuple[Server, Diagnostics, Decision]]:
    @jax.jit
    def update(world: World, server: Server, arrived: Arrived, rows: Array) -> tuple[Server, Diagnostics, Decision]:
        table, workers, versions = server.table, arrived.workers, arrived.versions
        arrived_byzantine = byzantine = lied(world, server.step, arrived)
        samples = counts(world, server.step, workers)
        if table is not None:
            table = _entered(table, arrived, rows, byzantine, samples)
            everyone = jnp.arange(len(table.present))
            workers = everyone if how.seen == len(everyone) else jnp.nonzero(table.present, size=how.seen)[0]
            rows, versions, byzantine = table.rows[workers], table.versions[workers], table.lied[workers]
            samples = table.samples[workers]
        there = workers >= 0
        ages = server.step - versions
        known = context(world, server, server.step, derive(world.key, Purpose.RULE, server.step))

        def applied(given: Array) -> tuple[Array, Info, Array, Any, Any]:
            aggregate, rule_state, info = apply(how.shown(given, workers, ages), server.rule, known, samples)
            return aggregate, info, *move(server.params, server.optimizer, aggregate), rule_state

        def stayed(given: Array) -> tuple[Array, Info, Array, Any, Any]:
            nothing = jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), jax.eval_shape(applied, given)[:2])
            return *nothing, server.params, server.optimizer, server.rule

        if judge is None:
            accepted, filter_state, new = jnp.ones(()), None, applied(rows)
        else:
            asked = context(world, server, server.step, derive(world.key, Purpose.FILTER, server.step))
            given, own, put = _asked(asked, server.filter, filter_remembers, judge.asks)
            row, accepted, judged = judge.judge(rows[0], Sent(workers[0], ages[0]), given, own)
            filter_state = put(judged)
            new = jax.lax.cond(accepted, applied, stayed, row[None])
        aggregate, info, params, optimizer_state, rule_state = new

        weights = None if info.weights is None else how.shares(info.weights, workers)
        honest, _ = mean_of(rows, ~byzantine & there)
        norm, cosine, distance = compared(aggregate, honest)
        seen = Diagnostics(
            aggregate_norm=norm,
            honest_cosine=cosine,
            honest_distance=jnp.where((byzantine | ~there).all(), jnp.nan, distance),
            byzantine_weight=jnp.nan if weights is None else jnp.where(byzantine, weights, 0).sum(),
            undecided=jnp.asarray(False if info.undecided is None else info.undecided),
            age=jnp.where(there, ages, 0).sum() / there.sum(),
            accepted=accepted,
        )
        after = Server(params, optimizer_state, rule_state, filter_state, table, server.step + 1)
        by_worker = jnp.zeros(len(world.sizes), jnp.float32)
        if weights is None:
            by_worker = jnp.full_like(by_worker, jnp.nan)
        else:
            by_worker = by_worker.at[workers].add(jnp.where(there, weights, 0).astype(jnp.float32))
        return after, jax.tree.map(jnp.float32, seen), Decision(arrived_byzantine, aggregate, by_worker)

    return update
