"""The adversary's part of an update: what it sees, and the rows that it sends in place of those of its workers."""

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from byzax.attacks import Answer, View
from byzax.attacks.base import AskRule, ModelLoss
from byzax.models import Model
from byzax.simulator.adversary import Adversary, ByzantineRanks, InitAdversary
from byzax.simulator.aggregation import Aggregate
from byzax.simulator.attackers import AttackerFunctions
from byzax.simulator.compilation import compiled_once
from byzax.simulator.context import MakeContext, ServerKnowledge
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.normalising import apply_scaling
from byzax.simulator.rates import Rate
from byzax.simulator.schedules.base import Weight
from byzax.simulator.senders import Arrivals, CountSamples, IsByzantine
from byzax.simulator.server import MoveModel, Server, empty_table, enter_rows, rows_in_table
from byzax.simulator.world import World

Array = jax.Array
State = Any


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
        empty_table(remembered, d) if remembered else None,
        jnp.zeros((kept, d)) if kept else None,
    )


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
    aggregate: Aggregate,
    make_context: MakeContext,
    move: MoveModel,
    harm: Harm,
    count_samples: CountSamples,
    weight: Weight | None,
    kept: int,
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
        aggregate: Aggregates rows.
        make_context: Gathers the server's knowledge.
        move: Applies an aggregate to the model.
        harm: Measures the loss of a model on samples of Byzantine workers.
        count_samples: Counts the samples of workers.
        weight: Gives the factors of rows by their ages; None for 1.
        kept: Number of the last rows of workers that the rule sees; 0 where the server keeps none.
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
            # made once: the rule is asked many times
            assert guess.own_row is not None
            _, row = guess.own_row(server.rule[1] if remembers else None)
            guess = ServerKnowledge(guess.context._replace(gradient=lambda: row), lambda memory: (memory, row))
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
            made, _, info = aggregate(flip(rows), workers, ages, samples, server.rule, guess)
            weights = info.weights
            if weights is not None and weight is not None:
                weights = weights * weight(ages.astype(float)).astype(weights.dtype)
            return Answer(flip(made), weights, rows)

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

        table = enter_rows(table, arrived, rows, is_byzantine(world, step, arrived), arrived_samples)
        n = len(table.present)
        workers, last = rows_in_table(table, kept or n)
        fresh = jnp.zeros(n, bool).at[arrived.workers].set(True)[workers]
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
