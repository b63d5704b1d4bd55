"""The adversary's part of an update: what it sees, and the rows that it sends in place of those of its workers."""

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from byzax.attacks import Answer, View
from byzax.attacks.base import AskRule, ModelLoss
from byzax.models import Model
from byzax.simulator.adversary import Adversary, ByzantineRanks
from byzax.simulator.attackers import AttackerFunctions
from byzax.simulator.compilation import compiled_once
from byzax.simulator.context import MakeContext, ServerKnowledge
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.rates import Rate
from byzax.simulator.schedules.base import Weight
from byzax.simulator.senders import Arrivals, CountSamples, IsByzantine
from byzax.simulator.server import MoveModel, Server
from byzax.simulator.updating import Aggregate
from byzax.simulator.world import World, scaled_samples

Array = jax.Array
State = Any


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
        return model.loss(params, scaled_samples(world, positions), world.y[positions])

    return harm


class ForgeUpdate(Protocol):
    """Forges the rows of Byzantine workers in an update."""

    def __call__(
        self,
        world: World,
        step: Any,
        arrived: Arrivals,
        rows: Any,
        server: Server,
        state: State,
        computed: Any = None,
        /,
    ) -> tuple[Array, State]:
        """The new rows that the server receives.

        Args:
            world: Arrays of the run.
            step: The update.
            arrived: The senders of the r rows.
            rows: `[r, d]`, new ones as the workers computed them, others as they were sent.
            server: The public state of the server.
            state: State of the adversary.
            computed: `[r, d]`, all of them as the workers computed them; None where that is `rows`.

        Returns:
            The new ones of the rows, honest ones unchanged, and the state after the update.
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
    alone: bool,
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
        alone: Whether the rule sees the new row alone where others are among the rows.
        models: Whether rows are models and not gradients or changes.
        weighed: Whether rows weigh, by samples or edges.
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
        world: World,
        step: Array,
        arrived: Arrivals,
        rows: Array,
        server: Server,
        state: State,
        computed: Array | None = None,
    ) -> tuple[Array, State]:
        workers, there = arrived.workers, arrived.workers >= 0
        ranks = ranks_of(world, step)
        mine = jnp.where(there, ranks[workers], -1)
        new = there if arrived.lags is None else there & (arrived.lags == 0)
        # the adversary does not know the keys of the rule and of the server's batch: it asks the rule with others
        guess = make_context(world, server, step, derive(world.key, Purpose.GUESS, step), arrived)
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

        samples, ages = count_samples(world, step, arrived), step - arrived.versions
        places = slice(None) if arrived.new is None else arrived.new
        # the rows that the rule sees
        seen = places if alone else slice(None)

        def build_ask_rule(known: Array) -> AskRule:
            def answer(attempt: Array) -> Answer:
                # of the Byzantine rows only the new ones can still be chosen
                tried = attempt if arrived.lags is None else jnp.where((new & (mine >= 0))[:, None], attempt, known)
                made, _, info = aggregate(
                    flip(tried)[seen], workers[seen], ages[seen], samples[seen], server.rule, guess
                )
                weights = info.weights
                if weights is not None and weight is not None:
                    weights = weights * weight(ages[seen].astype(float)).astype(weights.dtype)
                if weights is not None and len(weights) < len(tried):
                    weights = jnp.zeros(len(tried), weights.dtype).at[seen].set(weights)
                return Answer(flip(made), weights, tried)

            return answer

        # what only fills up an update is no row: 0, of worker -1, neither honest nor Byzantine
        real = jnp.where(there[:, None], flip(rows), 0)
        counts = samples.astype(jnp.float32) if weighed else jnp.ones(samples.shape, jnp.float32)
        view = View(
            real,
            byzantine=mine >= 0,
            # nor is one honest that was forged when it came, though its worker is honest by now
            known=there & (mine < 0) & ~is_byzantine(world, step, arrived),
            workers=workers,
            params=server.params,
            ask_rule=build_ask_rule(real),
            loss=build_loss(0, len(ranks)),
            step=step,
            receiver=np.int32(0) if arrived.receiver is None else arrived.receiver,
            own=np.bool_(False) if arrived.own is None else arrived.own,
            new=new,
            counts=jnp.where(there, counts, 0),
            rate=jnp.float32(rate(step) if callable(rate) else rate),
            after=after,
        )
        own = real if computed is None else jnp.where(there[:, None], flip(computed), 0)
        forged, state = forge_rows(key, view, mine, own, AttackerFunctions(build_ask_rule, build_loss), state)
        # whatever an attack returns, the rows of honest workers stay
        return jnp.where((mine >= 0)[places][:, None], flip(forged[places]), rows[places]), state

    return forge
