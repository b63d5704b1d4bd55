"""One update: the rows that the adversary forges, and what the parameter server does with all rows."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from byzax.aggregators import Aggregator, Context, Info
from byzax.aggregators.filters import Filter, Sent
from byzax.aggregators.kernels.means import mean_of
from byzax.attacks import Answer, View
from byzax.attacks.base import AskRule, ModelLoss
from byzax.models import Model
from byzax.simulator.adversary import Adversary, ByzantineRanks, InitAdversary
from byzax.simulator.attackers import AttackerFunctions
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.worker import Local
from byzax.simulator.diagnostics import Decision, Diagnostics, compare_with_honest
from byzax.simulator.jobs import JobKeys, MakeRow
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.normalising import apply_scaling
from byzax.simulator.rates import Rate
from byzax.simulator.schedules.base import Weight
from byzax.simulator.training import Memory, num_batches
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


class Arrivals(NamedTuple):
    """The senders of the r rows that arrive for one update.

    Attributes:
        workers: `[r]`, the worker of each row; -1 where no row is, to fill up an update.
        versions: `[r]`, the version of the model that each worker was handed.
        gone: `[n]`, the workers whose row has left the table; None for no worker.
        receiver: The node that the rows go to; None for the only server.
    """

    workers: Any
    versions: Any
    gone: Any = None
    receiver: Any = None


def _empty_table(n: int, d: int) -> RowTable:
    return RowTable(jnp.zeros((n, d)), jnp.zeros(n, jnp.int32), jnp.zeros(n, bool), jnp.zeros(n, bool), jnp.zeros(n))


@compiled_once
def build_init_adversary(adversary: Adversary, remembered: int) -> InitAdversary:
    """Builds the initial state of the adversary.

    The state holds those of the attacks, the last row of each worker as it was sent, and, where rows are hidden from an
    attack, the last row of each as it was computed.

    Args:
        adversary: The adversary.
        remembered: Number of workers whose last row it remembers: n or 0.

    Returns:
        The function that makes the state.
    """
    kept = remembered if adversary.has_hidden_rows else 0
    return lambda d: (
        adversary.init(d),
        _empty_table(remembered, d) if remembered else None,
        jnp.zeros((kept, d)) if kept else None,
    )


class StartServerRow(Protocol):
    """Makes the memory of the server's own rows."""

    def __call__(self, world: World, d: int, /) -> State:
        """The memory before the first row, of `d` coordinates."""
        ...


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

    start: StartServerRow
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
        others = (Purpose.AUGMENT, Purpose.CORRUPT, Purpose.DROPOUT)
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


class RowOfUpdate(Protocol):
    """Makes the server's own row of one update."""

    def __call__(self, memory: State, /) -> tuple[State, Array]:
        """The memory of the server's own rows after it, and the row `[d]`."""
        ...


class ServerKnowledge(NamedTuple):
    """The server's knowledge beside the rows, in one update.

    Attributes:
        context: The context that rule and filter get.
        own_row: Makes the server's own row; None where it has no samples.
    """

    context: Context
    own_row: RowOfUpdate | None


def _with_server_row(
    known: ServerKnowledge, state: State, remembers: bool, when: Callable[[State], Array] | None = None
) -> tuple[Context, State, Callable[[State], State]]:
    """The context of a rule or filter with the server's own row made, where the server remembers these rows.

    Args:
        known: The server's knowledge.
        state: State of the rule or filter; with the memory of the server's own rows where it `remembers` these.
        remembers: Whether the server remembers its own rows for it.
        when: Whether the row is needed, by the state; None for always.

    Returns:
        The context, the state of the rule or filter alone, and a function that puts the memory beside its new state.
    """
    if not remembers:
        return known.context, state, lambda new: new
    assert known.own_row is not None
    own, memory = state
    if when is None:
        memory, row = known.own_row(memory)
    else:
        _, shape = jax.eval_shape(known.own_row, memory)
        memory, row = jax.lax.cond(when(own), known.own_row, lambda memory: (memory, jnp.zeros_like(shape)), memory)
    return known.context._replace(gradient=lambda: row), own, lambda new: (new, memory)


def _fix_server_row(known: ServerKnowledge, memory: State) -> ServerKnowledge:
    """The same knowledge with the server's own row made once, for a rule that is asked many times."""
    assert known.own_row is not None
    _, row = known.own_row(memory)
    return ServerKnowledge(known.context._replace(gradient=lambda: row), lambda memory: (memory, row))


class ApplyRule(Protocol):
    """Applies the rule in use."""

    def __call__(
        self, rows: Array, state: State, known: ServerKnowledge, samples: Array, /
    ) -> tuple[Array, State, Info]:
        """The aggregate of rows.

        Args:
            rows: `[m, d]`, as the rule sees them.
            state: State of the rule, as in `Server`.
            known: The server's knowledge beside the rows.
            samples: `[m]`, the number of samples behind each row.

        Returns:
            The aggregate `[d]`, the state after it, and diagnostics.
        """
        ...


@compiled_once
def build_apply_rule(rule: Aggregator, weights: str, remembers: bool) -> ApplyRule:
    """Builds the application of a rule.

    Where rows weigh by samples, the rule's weights are multiplied by the numbers of samples, and their sum stays as it
    is: FedAvg, where the rule is the average.

    Args:
        rule: The rule.
        weights: "equal" or "samples".
        remembers: Whether the server remembers its own rows for the rule.

    Returns:
        The function that applies the rule.
    """

    def plain(rows: Array, state: State, known: ServerKnowledge, samples: Array) -> tuple[Array, State, Info]:
        context, own, put = _with_server_row(known, state, remembers)
        aggregate, after, info = rule.apply(rows, own, context)
        return aggregate, put(after), info

    if weights == "equal":
        return plain

    def by_samples(rows: Array, state: State, known: ServerKnowledge, samples: Array) -> tuple[Array, State, Info]:
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

    return by_samples


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
        table = _empty_table(kept, d) if kept else None
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


class MakeContext(Protocol):
    """Gathers the server's knowledge beside the rows."""

    def __call__(self, world: World, server: Server, step: Array, key: Array, /) -> ServerKnowledge:
        """The server's knowledge before an update.

        Args:
            world: Arrays of the run.
            server: State of the server.
            step: The update.
            key: Key of what rule or filter draw.

        Returns:
            The knowledge. Samples are drawn and gradients computed where a function of it is called.
        """
        ...


@compiled_once
def build_context(model: Model, batch_size: int, own: ServerRow, move: MoveModel) -> MakeContext:
    """Builds the context of rule and filter.

    Args:
        model: The model.
        batch_size: Samples of a batch.
        own: The server's own row.
        move: Applies an aggregate to the model.

    Returns:
        The function that gathers the server's knowledge.
    """

    def make_context(world: World, server: Server, step: Array, key: Array) -> ServerKnowledge:
        def after(aggregate: Array) -> Array:
            return move(server.params, server.optimizer, aggregate)[0]

        if not len(world.validation):
            return ServerKnowledge(Context(key, server.params, after=after), None)

        def own_row(memory: State) -> tuple[State, Array]:
            return own.make(world, server.params, step, key, memory)

        def loss(params: Array) -> Array:
            draw = jax.random.fold_in(key, int(Purpose.SERVER_BATCH))
            position = world.validation[jax.random.randint(draw, (batch_size,), 0, len(world.validation))]
            return model.loss(params, apply_scaling(world.scaling, world.x[position]), world.y[position])

        return ServerKnowledge(Context(key, server.params, lambda: own_row(None)[1], loss, after), own_row)

    return make_context


class Harm(Protocol):
    """Measures the harm that an adversary does."""

    def __call__(self, world: World, step: Array, whose: Array, params: Array, /) -> Array:
        """The loss of a model on a batch of the samples of some workers.

        Args:
            world: Arrays of the run.
            step: The update, by which the batch is drawn.
            whose: `[n]`, truth values: the workers.
            params: `[d]`, the model.

        Returns:
            The mean loss, a scalar.
        """
        ...


@compiled_once
def build_harm(model: Model, batch_size: int) -> Harm:
    """Builds the measure of harm by which an adversary chooses its rows.

    Args:
        model: The model.
        batch_size: Samples of a batch.

    Returns:
        The function that measures the loss of a model.
    """

    def harm(world: World, step: Array, whose: Array, params: Array) -> Array:
        one, which = jax.random.split(derive(world.key, Purpose.HARM, step))
        workers = jax.random.choice(one, len(whose), (batch_size,), p=whose / jnp.maximum(whose.sum(), 1))
        positions = world.shards[workers, jax.random.randint(which, (batch_size,), 0, world.sizes[workers])]
        return model.loss(params, apply_scaling(world.scaling, world.x[positions]), world.y[positions])

    return harm


class RowsForRule(Protocol):
    """Makes the rows that the rule sees."""

    def __call__(self, rows: Array, workers: Array, ages: Array, /) -> Array:
        """The rows that the rule sees.

        Args:
            rows: `[m, d]`, new and kept rows.
            workers: `[m]`, their workers, -1 where no row is.
            ages: `[m]`, their ages in updates.

        Returns:
            `[num_rows, d]`: the rows times the factors of their ages, or their means in buckets.
        """
        ...


class ShareWeights(Protocol):
    """Shares the weights of the rows that the rule saw among the rows behind them."""

    def __call__(self, weights: Array, workers: Array, /) -> Array:
        """The weight of each row.

        Args:
            weights: `[num_rows]`, the rule's weights.
            workers: `[m]`, the workers of the rows, -1 where no row is.

        Returns:
            `[m]`; in buckets the rows of one have equal parts of its weight.
        """
        ...


class RuleInput(NamedTuple):
    """The rows that the rule sees, made of the new and kept rows of an update.

    Attributes:
        sees: "rows", "table" or "buckets", as in `Schedule`.
        num_rows: Number of rows that the rule sees.
        make_rows: Makes these rows.
        share_weights: Shares the rule's weights among the rows behind them.
        factors: Gives the factors `[m]` of rows by their ages `[m]` in updates.
    """

    sees: str
    num_rows: int
    make_rows: RowsForRule
    share_weights: ShareWeights
    factors: Weight


@compiled_once
def build_rule_input(sees: str, buckets: int, weight: Weight | None, num_rows: int) -> RuleInput:
    """Builds the input of the rule.

    Args:
        sees: "rows", "table" or "buckets", as in `Schedule`.
        buckets: Number of buckets, with "buckets".
        weight: Gives the factors of rows by their ages; None for 1.
        num_rows: Number of rows that the rule sees.

    Returns:
        The functions that make the input.
    """

    def factors(ages: Array) -> Array:
        ages = jnp.asarray(ages).astype(float)
        return jnp.ones_like(ages) if weight is None else weight(ages)

    def make_rows(rows: Array, workers: Array, ages: Array) -> Array:
        if weight is not None:
            rows = rows * weight(ages.astype(rows.dtype))[:, None]
        return _bucket_means(rows, workers, buckets) if sees == "buckets" else rows

    def share_weights(weights: Array, workers: Array) -> Array:
        if sees != "buckets":
            return weights
        place, counts = _in_buckets(workers, buckets)
        return jnp.where(workers < 0, 0, weights[workers % buckets] / counts[place].astype(weights.dtype))

    return RuleInput(sees, num_rows, make_rows, share_weights, factors)


def _in_buckets(workers: Array, buckets: int) -> tuple[Array, Array]:
    """The bucket of each row `[r]` and the rows in each `[buckets + 1]`, the last for places without a row."""
    place = jnp.where(workers < 0, buckets, workers % buckets)
    return place, jax.ops.segment_sum(jnp.ones(len(workers), jnp.float32), place, buckets + 1)


def _bucket_means(rows: Array, workers: Array, buckets: int) -> Array:
    """The mean of the rows in each bucket `[buckets, d]`."""
    place, counts = _in_buckets(workers, buckets)
    return jax.ops.segment_sum(rows, place, buckets + 1)[:buckets] / counts[:buckets, None].astype(rows.dtype)


class IsByzantine(Protocol):
    """Finds the Byzantine rows of an update."""

    def __call__(self, world: World, step: Array, arrived: Arrivals, /) -> Array:
        """The rows that count as Byzantine.

        Args:
            world: Arrays of the run.
            step: The update.
            arrived: The senders of the r rows.

        Returns:
            `[r]`, truth values.
        """
        ...


@compiled_once
def build_is_byzantine(adversary: Adversary, ranks: ByzantineRanks, changing: bool) -> IsByzantine:
    """Builds the test whether rows are Byzantine.

    A row is Byzantine where its worker is in the update that the row arrives for, or had poisoned data when it trained,
    which counts for the update whose model it was handed.

    Args:
        adversary: The adversary.
        ranks: Numbers the Byzantine workers.
        changing: Whether the Byzantine workers are drawn for every update.

    Returns:
        The function that finds the Byzantine rows.
    """

    def is_byzantine(world: World, step: Array, arrived: Arrivals) -> Array:
        workers, there = arrived.workers, arrived.workers >= 0
        now = ranks(world, step)[workers]
        if not changing:
            return there & (now >= 0)
        handed = jnp.where(there, arrived.versions, step)

        def of_version(version: Array, found: Array) -> Array:
            return found | ((handed == version) & adversary.byzantine_in_training(ranks(world, version)[workers]))

        # Byzantine workers are drawn for all workers at once: once for each version, of which there are few
        poisoned = jax.lax.fori_loop(handed.min(), handed.max() + 1, of_version, jnp.zeros(handed.shape, bool))
        return there & (adversary.byzantine_in_sending(now) | poisoned)

    return is_byzantine


class CountSamples(Protocol):
    """Counts the samples of workers as the server knows them."""

    def __call__(self, world: World, step: Array, workers: Array, /) -> Array:
        """The numbers of samples that workers claim to hold.

        Args:
            world: Arrays of the run.
            step: The update.
            workers: `[m]`, the workers, -1 for none.

        Returns:
            `[m]`.
        """
        ...


@compiled_once
def build_count_samples(adversary: Adversary, ranks: ByzantineRanks) -> CountSamples:
    """Builds the count of the workers' samples.

    Args:
        adversary: The adversary, whose workers may claim other numbers than they hold.
        ranks: Numbers the Byzantine workers.

    Returns:
        The function that counts.
    """

    def count_samples(world: World, step: Array, workers: Array) -> Array:
        held = world.sizes[workers]
        if adversary.claim is None:
            return held
        return adversary.claim(held.astype(float), jnp.where(workers >= 0, ranks(world, step)[workers], -1), step)

    return count_samples


def _enter_rows(table: RowTable, arrived: Arrivals, rows: Array, byzantine: Array, samples: Array) -> RowTable:
    present = table.present if arrived.gone is None else table.present & jnp.logical_not(arrived.gone)
    return RowTable(
        table.rows.at[arrived.workers].set(rows),
        table.versions.at[arrived.workers].set(arrived.versions),
        present.at[arrived.workers].set(True),
        table.byzantine.at[arrived.workers].set(byzantine),
        table.samples.at[arrived.workers].set(samples.astype(table.samples.dtype)),
    )


class ForgeUpdate(Protocol):
    """Forges the rows of Byzantine workers in an update."""

    def __call__(
        self, world: World, step: Any, arrived: Arrivals, rows: Any, server: Server, state: State, /
    ) -> tuple[Array, State]:
        """The rows that the server receives.

        Args:
            world: Arrays of the run.
            step: The update.
            arrived: The senders of the r rows.
            rows: `[r, d]`, as the workers computed them.
            server: The public state of the server.
            state: State of the adversary.

        Returns:
            The rows `[r, d]`, honest ones unchanged, and the state after the update.
        """
        ...


@compiled_once
def build_forge(
    adversary: Adversary,
    ranks_of: ByzantineRanks,
    is_byzantine: IsByzantine,
    apply_rule: ApplyRule,
    make_context: MakeContext,
    move: MoveModel,
    harm: Harm,
    count_samples: CountSamples,
    rule_input: RuleInput,
    kept: bool,
    models: bool,
    weighed: bool,
    asks_own: bool,
    remembers: bool,
    rate: float | Rate,
) -> ForgeUpdate:
    """Builds the adversary's part of an update.

    Attacks see descents: where rows are models, the way down from the server's model to each.

    Args:
        adversary: The adversary.
        ranks_of: Numbers the Byzantine workers.
        is_byzantine: Finds the Byzantine rows.
        apply_rule: Applies the rule.
        make_context: Gathers the server's knowledge.
        move: Applies an aggregate to the model.
        harm: Measures the loss of a model on samples of Byzantine workers.
        count_samples: Counts the samples of workers.
        rule_input: Makes the rows that the rule sees.
        kept: Whether the server keeps the last row of every worker.
        models: Whether rows are models and not gradients or changes.
        weighed: Whether rows weigh by samples.
        asks_own: Whether an attack asks a rule that needs the server's own row.
        remembers: Whether the server remembers its own rows for the rule.
        rate: Learning rate of the server: a number, or a function of the step.

    Returns:
        The function that forges rows, compiled.
    """
    assert adversary.forge is not None
    forge_rows = adversary.forge

    @jax.jit
    def forge(
        world: World, step: Array, arrived: Arrivals, rows: Array, server: Server, state: State
    ) -> tuple[Array, State]:
        own, table, computed = state
        ranks = ranks_of(world, step)
        new = jnp.where(arrived.workers >= 0, ranks[arrived.workers], -1)
        # the adversary does not know the keys of the rule and of the server's batch: it asks the rule with others
        guess = make_context(world, server, step, derive(world.key, Purpose.GUESS, step))
        if asks_own:
            guess = _fix_server_row(guess, server.rule[1] if remembers else None)
        key = derive(world.key, Purpose.FORGE, step)

        def build_loss(first: Any, end: Any) -> ModelLoss:
            return partial(harm, world, step, (ranks >= first) & (ranks < end))

        def flip(rows: Array) -> Array:
            """Models as descents, and descents as models."""
            return server.params - rows if models else rows

        def after(aggregate: Array) -> Array:
            return move(server.params, server.optimizer, flip(aggregate))[0]

        now = jnp.float32(rate(step) if callable(rate) else rate)
        common = {"params": server.params, "loss": build_loss(0, len(ranks)), "step": step, "rate": now, "after": after}
        if arrived.receiver is not None:
            common["receiver"] = arrived.receiver
        arrived_samples = count_samples(world, step, arrived.workers)

        def row_counts(samples: Array) -> Array:
            return samples.astype(jnp.float32) if weighed else jnp.ones(samples.shape, jnp.float32)

        def answer_to(rows: Array, workers: Array, versions: Array, samples: Array) -> Answer:
            ages = step - versions
            given = rule_input.make_rows(flip(rows), workers, ages)
            aggregate, _, info = apply_rule(given, server.rule, guess, samples)
            weights = info.weights
            if weights is not None:
                weights = rule_input.share_weights(weights, workers)
                weights = weights * rule_input.factors(ages).astype(weights.dtype)
            return Answer(flip(aggregate), weights, rows)

        if table is None:

            def build_ask_rule(known: Array) -> AskRule:
                return lambda attempt: answer_to(attempt, arrived.workers, arrived.versions, arrived_samples)

            there = arrived.workers >= 0
            # what only fills up an update is no row: 0, of worker -1, neither honest nor Byzantine
            real = jnp.where(there[:, None], flip(rows), 0)
            known = there & (new < 0) & ~is_byzantine(world, step, arrived)
            common["counts"] = jnp.where(there, row_counts(arrived_samples), 0)
            view = View(real, new >= 0, known, arrived.workers, ask_rule=build_ask_rule(real), new=there, **common)
            forged, own = forge_rows(key, view, new, real, AttackerFunctions(build_ask_rule, build_loss), own)
            # whatever an attack returns, the rows of honest workers stay
            return jnp.where((new >= 0)[:, None], flip(forged), rows), (own, None, None)

        table = _enter_rows(table, arrived, rows, is_byzantine(world, step, arrived), arrived_samples)
        everyone = jnp.arange(len(table.present))
        num_rows = rule_input.num_rows
        workers = jnp.nonzero(table.present, size=num_rows)[0] if kept and num_rows < len(everyone) else everyone
        last = jax.tree.map(lambda each: each[workers], table)
        fresh = jnp.zeros(len(everyone), bool).at[arrived.workers].set(True)[workers]
        if computed is not None:
            computed = computed.at[arrived.workers].set(rows)

        def build_ask_rule(known: Array) -> AskRule:
            def answer(attempt: Array) -> Answer:
                # of the Byzantine rows only the new ones can still be chosen
                tried = jnp.where((fresh & (mine >= 0))[:, None], attempt, known)
                if kept:
                    return answer_to(tried, workers, last.versions, last.samples)
                given = answer_to(tried[arrived.workers], arrived.workers, arrived.versions, arrived_samples)
                if given.weights is None:
                    return given._replace(rows=tried)
                weights = jnp.zeros(len(workers), given.weights.dtype).at[arrived.workers].set(given.weights)
                return Answer(given.aggregate, weights, tried)

            return answer

        # a worker without any row yet is not honest, nor is one whose last row is Byzantine
        mine = jnp.where(last.present, ranks[workers], -1)
        known = last.present & (mine < 0) & ~last.byzantine
        whose = jnp.where(last.present, workers, -1)
        common["counts"] = jnp.where(last.present, row_counts(last.samples), 0)
        there = last.present[:, None]
        last_rows = jnp.where(there, flip(last.rows), 0)
        view = View(last_rows, mine >= 0, known, whose, ask_rule=build_ask_rule(last_rows), new=fresh, **common)
        computed_rows = last_rows if computed is None else jnp.where(there, flip(computed[workers]), 0)
        forged, own = forge_rows(key, view, mine, computed_rows, AttackerFunctions(build_ask_rule, build_loss), own)
        sent = jnp.where((new >= 0)[:, None], flip(forged[jnp.searchsorted(workers, arrived.workers)]), rows)
        return sent, (own, table._replace(rows=table.rows.at[arrived.workers].set(sent)), computed)

    return forge


class MakeUpdate(Protocol):
    """Makes an update of the parameter server."""

    def __call__(
        self, world: World, server: Server, arrived: Arrivals, rows: Any, /
    ) -> tuple[Server, Diagnostics, Decision]:
        """The server after the update.

        Args:
            world: Arrays of the run.
            server: State of the server.
            arrived: The senders of the r rows.
            rows: `[r, d]`, as the server receives them.

        Returns:
            The state, the diagnostics of the update, and what the server made of each row.
        """
        ...


@compiled_once
def build_update(
    apply_rule: ApplyRule,
    judge: Filter | None,
    make_context: MakeContext,
    move: MoveModel,
    is_byzantine: IsByzantine,
    count_samples: CountSamples,
    rule_input: RuleInput,
    filter_remembers: bool,
) -> MakeUpdate:
    """Builds the server's part of an update.

    Args:
        apply_rule: Applies the rule.
        judge: The filter; None for none.
        make_context: Gathers the server's knowledge.
        move: Applies an aggregate to the model.
        is_byzantine: Finds the Byzantine rows, for diagnostics.
        count_samples: Counts the samples of workers.
        rule_input: Makes the rows that the rule sees.
        filter_remembers: Whether the server remembers its own rows for the filter.

    Returns:
        The function that makes an update, compiled.
    """

    @jax.jit
    def update(world: World, server: Server, arrived: Arrivals, rows: Array) -> tuple[Server, Diagnostics, Decision]:
        table, workers, versions = server.table, arrived.workers, arrived.versions
        arrived_byzantine = byzantine = is_byzantine(world, server.step, arrived)
        samples = count_samples(world, server.step, workers)
        if table is not None:
            table = _enter_rows(table, arrived, rows, byzantine, samples)
            everyone = jnp.arange(len(table.present))
            num_rows = rule_input.num_rows
            workers = everyone if num_rows == len(everyone) else jnp.nonzero(table.present, size=num_rows)[0]
            rows, versions, byzantine = table.rows[workers], table.versions[workers], table.byzantine[workers]
            samples = table.samples[workers]
        there = workers >= 0
        ages = server.step - versions
        known = make_context(world, server, server.step, derive(world.key, Purpose.RULE, server.step))

        def accept(given: Array) -> tuple[Array, Info, Array, State, State]:
            rows_for_rule = rule_input.make_rows(given, workers, ages)
            aggregate, rule_state, info = apply_rule(rows_for_rule, server.rule, known, samples)
            return aggregate, info, *move(server.params, server.optimizer, aggregate), rule_state

        def refuse(given: Array) -> tuple[Array, Info, Array, State, State]:
            nothing = jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), jax.eval_shape(accept, given)[:2])
            return *nothing, server.params, server.optimizer, server.rule

        if judge is None:
            accepted, filter_state, new = jnp.ones(()), None, accept(rows)
        else:
            for_filter = make_context(world, server, server.step, derive(world.key, Purpose.FILTER, server.step))
            given, own, put = _with_server_row(for_filter, server.filter, filter_remembers, judge.asks)
            row, accepted, judged = judge.judge(rows[0], Sent(workers[0], ages[0]), given, own)
            filter_state = put(judged)
            new = jax.lax.cond(accepted, accept, refuse, row[None])
        aggregate, info, params, optimizer_state, rule_state = new

        weights = None if info.weights is None else rule_input.share_weights(info.weights, workers)
        honest, _ = mean_of(rows, ~byzantine & there)
        norm, cosine, distance = compare_with_honest(aggregate, honest)
        diagnostics = Diagnostics(
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
        return after, jax.tree.map(jnp.float32, diagnostics), Decision(arrived_byzantine, aggregate, by_worker)

    return update
