"""The server's part of an update: the context, the filter, the rule, the next model."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from byzax.aggregators import Info
from byzax.aggregators.filters import Filter, Sent
from byzax.aggregators.kernels.means import mean_of
from byzax.simulator.aggregation import Aggregate
from byzax.simulator.compilation import compiled_once
from byzax.simulator.context import MakeContext, with_server_row
from byzax.simulator.diagnostics import Decision, Diagnostics, compare_with_honest
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.senders import Arrivals, CountSamples, IsByzantine
from byzax.simulator.server import MoveModel, Server
from byzax.simulator.world import World

Array = jax.Array
State = Any


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
def build_update(
    aggregate: Aggregate,
    judge: Filter | None,
    make_context: MakeContext,
    move: MoveModel,
    is_byzantine: IsByzantine,
    count_samples: CountSamples,
    filter_remembers: bool,
) -> MakeUpdate:
    """Builds the server's part of an update.

    Args:
        aggregate: Aggregates rows.
        judge: The filter; None for none.
        make_context: Gathers the server's knowledge.
        move: Applies an aggregate to the model.
        is_byzantine: Finds the Byzantine rows, for diagnostics.
        count_samples: Counts the samples of workers.
        filter_remembers: Whether the server remembers its own rows for the filter.

    Returns:
        The function that makes an update, compiled.
    """

    @jax.jit
    def update(world: World, server: Server, arrived: Arrivals, rows: Array) -> tuple[Server, Diagnostics, Decision]:
        workers, there = arrived.workers, arrived.workers >= 0
        byzantine = is_byzantine(world, server.step, arrived)
        samples = count_samples(world, server.step, arrived)
        ages = server.step - arrived.versions
        known = make_context(world, server, server.step, derive(world.key, Purpose.RULE, server.step))

        def accept(given: Array) -> tuple[Array, Info, Array, State, State]:
            made, rule_state, info = aggregate(given, workers, ages, samples, server.rule, known)
            return made, info, *move(server.params, server.optimizer, made), rule_state

        def refuse(given: Array) -> tuple[Array, Info, Array, State, State]:
            nothing = jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), jax.eval_shape(accept, given)[:2])
            return *nothing, server.params, server.optimizer, server.rule

        if judge is None:
            accepted, filter_state, new = jnp.ones(()), None, accept(rows)
        else:
            for_filter = make_context(world, server, server.step, derive(world.key, Purpose.FILTER, server.step))
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
