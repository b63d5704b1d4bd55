"""The server's part of an update: the filter, the rows that the rule sees, the rule, the next model."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from byzax.aggregators import Aggregator, Info
from byzax.aggregators.filters import Filter, Sent
from byzax.aggregators.kernels.means import mean_of
from byzax.simulator.compilation import compiled_once
from byzax.simulator.context import MakeContext, ServerKnowledge, with_server_row
from byzax.simulator.diagnostics import Decision, Diagnostics, compare_with_honest
from byzax.simulator.grouping import MeanOfGroups
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.privacy import add_noise, bound
from byzax.simulator.schedules.base import Weight
from byzax.simulator.senders import Arrivals, CountSamples, IsByzantine
from byzax.simulator.server import MoveModel, Server
from byzax.simulator.world import World

Array = jax.Array
State = Any


class Aggregate(Protocol):
    """Aggregates the rows of an update."""

    def __call__(
        self,
        rows: Array,
        workers: Array,
        ages: Array,
        samples: Array,
        state: State,
        known: ServerKnowledge,
        /,
    ) -> tuple[Array, State, Info]:
        """The aggregate of rows.

        Args:
            rows: `[m, d]`, new and kept rows.
            workers: `[m]`, their workers, -1 where no row is.
            ages: `[m]`, their ages in updates.
            samples: `[m]`, the number of samples behind each.
            state: State of the rule, as in `Server`.
            known: The server's knowledge beside the rows.

        Returns:
            The aggregate `[d]`, the state after it, and diagnostics, of which the weights `[m]` are those of these
            rows as the rule saw them: without the factors of their ages.
        """
        ...


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
            rows: `[r, d]`, as the server received them.

        Returns:
            The state, the diagnostics of the update, and what the server made of each row.
        """
        ...


@compiled_once
def build_aggregate(
    rule: Aggregator,
    weight: Weight | None,
    mean_of_groups: MeanOfGroups | None,
    weighed: bool,
    remembers: bool,
    clip: float | None = None,
) -> Aggregate:
    """Builds the aggregation of rows: clipping, factors by their ages, means of groups, the rule, weights by samples.

    Where rows weigh by samples, the rule's weights are multiplied by the numbers of samples, and their sum stays as it
    is: FedAvg, where the rule is the average.

    Args:
        rule: The rule.
        weight: Gives the factors of rows by their ages; None for 1.
        mean_of_groups: Takes the means of groups, which the rule sees; None where it sees the rows.
        weighed: Whether rows weigh by samples.
        remembers: Whether the server remembers its own rows for the rule.
        clip: The length to which the server shortens rows; None for any.

    Returns:
        The function that aggregates.
    """

    def aggregate(
        rows: Array, workers: Array, ages: Array, samples: Array, state: State, known: ServerKnowledge
    ) -> tuple[Array, State, Info]:
        if clip is not None:
            rows = jax.vmap(partial(bound, clip=clip))(rows)
        if weight is not None:
            rows = rows * weight(ages.astype(rows.dtype))[:, None]
        place, counts = None, None
        if mean_of_groups is not None:
            key = jax.random.fold_in(known.context.key, int(Purpose.MASKS))
            rows, place, counts = mean_of_groups(rows, workers, key)
        context, own, put = with_server_row(known, state, remembers)
        made, after, info = rule.apply(rows, own, context)
        if weighed:
            made, info = _weigh_by_samples(rows, made, info, samples)
        if place is not None and counts is not None and info.weights is not None:
            # the rows of one group have equal parts of its weight
            shared = jnp.append(info.weights, 0)[place] / counts.astype(info.weights.dtype)
            info = info._replace(weights=jnp.where(workers < 0, 0, shared))
        return made, put(after), info

    return aggregate


def make_update(
    aggregate: Aggregate,
    judge: Filter | None,
    make_context: MakeContext,
    move: MoveModel,
    is_byzantine: IsByzantine,
    count_samples: CountSamples,
    filter_remembers: bool,
    noise: float = 0.0,
) -> MakeUpdate:
    """Makes the server's part of an update, a function that is not compiled yet.

    Args:
        aggregate: Aggregates rows.
        judge: The filter; None for none.
        make_context: Gathers the server's knowledge.
        move: Applies an aggregate to the model.
        is_byzantine: Finds the Byzantine rows, for diagnostics.
        count_samples: Counts the samples of workers.
        filter_remembers: Whether the server remembers its own rows for the filter.
        noise: The deviation of the noise that the server adds to the sum of the rows.

    Returns:
        The function that makes an update.
    """

    def update(world: World, server: Server, arrived: Arrivals, rows: Array) -> tuple[Server, Diagnostics, Decision]:
        workers, there = arrived.workers, arrived.workers >= 0
        byzantine = is_byzantine(world, server.step, arrived)
        samples = count_samples(world, server.step, arrived)
        ages = server.step - arrived.versions
        known = make_context(world, server, server.step, derive(world.key, Purpose.RULE, server.step), arrived)

        def accept(given: Array) -> tuple[Array, Info, Array, State, State]:
            made, rule_state, info = by_itself(
                server.step >= 0, lambda given: aggregate(given, workers, ages, samples, server.rule, known), given
            )
            if noise:
                made = add_noise(derive(world.key, Purpose.SERVER_NOISE, server.step), made, noise / there.sum())
            return made, info, *move(server.params, server.optimizer, made), rule_state

        def refuse(given: Array) -> tuple[Array, Info, Array, State, State]:
            return *_zeros_like(jax.eval_shape(accept, given)[:2]), server.params, server.optimizer, server.rule

        if judge is None:
            accepted, filter_state, new = jnp.ones(()), None, accept(rows)
        else:
            judging = derive(world.key, Purpose.FILTER, server.step)
            for_filter = make_context(world, server, server.step, judging, arrived)
            given, own, put = with_server_row(for_filter, server.filter, filter_remembers, judge.asks)
            row, accepted, judged = judge.judge(rows[0], Sent(workers[0], ages[0]), given, own)
            filter_state = put(judged)
            new = jax.lax.cond(accepted, accept, refuse, row[None])
        made, info, params, optimizer_state, rule_state = new

        weights = info.weights
        honest, _ = mean_of(rows, ~byzantine & there)
        norm, cosine, distance = compare_with_honest(made, honest)
        diagnostics = Diagnostics(
            aggregate_norm=norm,
            honest_cosine=cosine,
            honest_distance=jnp.where((byzantine | ~there).all(), jnp.nan, distance),
            byzantine_weight=jnp.nan if weights is None else jnp.where(byzantine, weights, 0).sum(),
            undecided=jnp.asarray(False if info.undecided is None else info.undecided),
            age=jnp.where(there, ages, 0).sum() / there.sum(),
            accepted=accepted,
        )
        after = Server(params, optimizer_state, rule_state, filter_state, server.step + 1)
        by_worker = jnp.zeros(len(world.sizes), jnp.float32)
        if weights is None:
            by_worker = jnp.full_like(by_worker, jnp.nan)
        else:
            by_worker = by_worker.at[workers].add(jnp.where(there, weights, 0).astype(jnp.float32))
        return after, jax.tree.map(jnp.float32, diagnostics), Decision(byzantine, made, by_worker)

    return update


def by_itself(true: Array, function: Callable[[Any], Any], given: Any) -> Any:
    """`function(given)`, compiled as a branch of its own, which is always taken.

    XLA on CPU writes a sorting network out anew in each loop that reads what it gives, and keeps to branches.

    Args:
        true: A truth value that is true, of which the compiler does not know it.
        function: The function.
        given: Its argument.

    Returns:
        What it gives.
    """
    return jax.lax.cond(true, function, lambda given: _zeros_like(jax.eval_shape(function, given)), given)


def _zeros_like(shapes: Any) -> Any:
    return jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), shapes)


@compiled_once
def build_update(*parts: Any) -> MakeUpdate:
    """Builds the server's part of an update.

    Args:
        *parts: As `make_update` takes them.

    Returns:
        The function that makes an update, compiled.
    """
    return jax.jit(make_update(*parts))


def _weigh_by_samples(rows: Array, aggregate: Array, info: Info, samples: Array) -> tuple[Array, Info]:
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
    return weighted, info._replace(weights=shared)
