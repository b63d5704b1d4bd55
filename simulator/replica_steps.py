"""The steps of servers with models of their own, and of workers that hear several of them, or pull from one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from byzax.simulator.compilation import compiled_once
from byzax.simulator.core import Agreement, Core
from byzax.simulator.events import EventResult, NodeEvent, NodeStep, Sending
from byzax.simulator.jobs import build_worker_step
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.messages import stack_rows
from byzax.simulator.pulls import Pulling, PullMemory, Pulls
from byzax.simulator.receivers import UpdateReceiver
from byzax.simulator.senders import Arrivals
from byzax.simulator.server import Server, public_state
from byzax.simulator.world import World

# The steps of a round after the job: the server's update, the servers' agreement, the workers' agreement, and the model
# that a server shows to attackers.
UPDATE, GATHER, PULL, SHOW = "update", "gather", "pull", "show"


class Replicas(NamedTuple):
    """The servers of a run.

    Attributes:
        servers: Their number.
        byzantine: Number of Byzantine ones, the first of them.
        models: Number of models that a node waits for.
        rows: Number of rows that a server waits for.
        every: Rounds from one in which servers exchange models to the next.
        pulling: The settings of workers that pull the model of one server in all other rounds, and of nodes that all
            wait for all others; None where workers hear several servers in every round.
    """

    servers: int
    byzantine: int
    models: int
    rows: int
    every: int
    pulling: Pulling | None = None

    @property
    def honest(self) -> tuple[int, ...]:
        """The honest servers."""
        return tuple(range(self.byzantine, self.servers))

    @property
    def measured(self) -> tuple[int, ...]:
        """The servers that end a round and are measured: the honest ones, or all where there are none."""
        return self.honest or tuple(range(self.servers))


class Trainee(NamedTuple):
    """The state of a worker.

    Attributes:
        params: `[d]`, the model that it computes its next row from.
        memory: Its memory across jobs; None for none.
        pulls: Its memory of the models that it pulled; None where it pulls none.
    """

    params: Any
    memory: Any
    pulls: PullMemory | None = None


def forging_step(step: str) -> str:
    """The step that forges the models which another one reads, and the kind of its nodes."""
    return f"forge {step}"


@compiled_once
def build_steps(
    core: Core, update_receiver: UpdateReceiver, agreement: Agreement, replicas: Replicas, pulls: Pulls | None
) -> tuple[NodeStep, ...]:
    """Builds the steps of servers and of the workers that hear them.

    Args:
        core: The functions of the run.
        update_receiver: Applies the rule at a server.
        agreement: The functions by which nodes agree on a model.
        replicas: The servers.
        pulls: The functions of workers that pull models; None where workers hear several servers in every round.

    Returns:
        Those of a worker's job, a server's update, the lies to servers, their agreement, the lies to workers, theirs,
        and the step by which a server shows its model to attackers.
    """
    worker = build_worker_step(core.work, core.memory, core.batch, core.even)

    def is_due(turn: Any) -> Any:
        """Tells whether servers exchange models in a round in which all nodes hear all others."""
        return (turn + 1) % replicas.every == 0

    @jax.jit
    def world_of(here: World, stage: int, receiver: Any) -> World:
        """The world of a receiver in which the servers are the workers."""
        ranks = jnp.arange(replicas.servers)
        return here._replace(
            key=derive(here.key, Purpose.NODE, receiver, stage),
            byzantine_rank=jnp.where(ranks < replicas.byzantine, ranks, -1),
            sizes=jnp.ones(replicas.servers, jnp.int32),
        )

    def receiver_of(here: World, stage: int, event: NodeEvent, params: Any, k: int) -> tuple[World, Server, Arrivals]:
        state = Server(params, None, agreement.init_rule(len(params)), None, jnp.int32(event.turn))
        arrived = Arrivals(event.senders[:k], event.versions[:k], receiver=jnp.int32(event.node))
        return world_of(here, stage, event.node), state, arrived

    def agree(here: World, stage: int, event: NodeEvent, params: Any, models: Any) -> Any:
        if len(models) == 1:
            return models[0]
        mine, state, arrived = receiver_of(here, stage, event, params, len(models))
        after, _, _ = agreement.update(mine, state, arrived, models)
        return after.params

    @jax.jit
    def agree_when_due(here: World, event: NodeEvent, params: Any, models: Any) -> Any:
        return jax.lax.cond(is_due(event.turn), lambda: agree(here, 1, event, params, models), lambda: params)

    @jax.jit
    def agree_or_pull(here: World, event: NodeEvent, trainee: Trainee, models: Any) -> Trainee:
        def agreed() -> Trainee:
            return trainee._replace(params=agree(here, 2, event, trainee.params, models))

        def pulled() -> Trainee:
            assert pulls is not None
            assert trainee.pulls is not None
            params, memory = pulls.pull(here, event.node, event.turn, trainee.params, trainee.pulls, models)
            return trainee._replace(params=params, pulls=memory)

        return jax.lax.cond(is_due(event.turn), agreed, pulled)

    def work(here: World, event: NodeEvent, trainee: Trainee, messages: Sequence[Any]) -> EventResult:
        if pulls is not None and trainee.pulls is not None:
            begun = pulls.begin(here, event.node, event.turn, trainee.params, trainee.pulls)
            memory, row = trainee.memory, begun.gradient
            if worker.transform is not None:
                memory, row = worker.transform(here, event, memory, row)
            return EventResult(trainee._replace(memory=memory, pulls=begun), row, arrays=(event.node, row))
        memory, row, *_ = worker.run(here, event._replace(versions=(event.turn,)), trainee.memory, (trainee,))
        return EventResult(trainee._replace(memory=memory), row, arrays=(event.node, row))

    def update(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        server, diagnostics, decision = update_receiver(here, event, server, messages)
        seen = diagnostics, decision.weights, event.node >= (replicas.byzantine if replicas.honest else 0)
        return EventResult(
            server, server.params, seen, (event.node, decision.aggregate, event.senders, stack_rows(messages))
        )

    def gather(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        models = stack_rows(messages)
        params = (
            agree(here, 1, event, server.params, models)
            if pulls is None
            else agree_when_due(here, event, server.params, models)
        )
        return EventResult(server._replace(params=params), params)

    def pull(here: World, event: NodeEvent, trainee: Trainee, messages: Sequence[Any]) -> EventResult:
        models = stack_rows(messages)
        if pulls is None:
            trainee = trainee._replace(params=agree(here, 2, event, trainee.params, models))
        else:
            trainee = agree_or_pull(here, event, trainee, models)
        return EventResult(trainee, trainee.params)

    def show(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        return EventResult(server, public_state(server))

    def build_forge(stage: int) -> Callable[..., EventResult]:
        def forge(here: World, event: NodeEvent, state: Any, messages: Sequence[Any]) -> EventResult:
            models, shown = messages[:-1], messages[-1]
            if len(models) < replicas.models:
                # a server that goes on with its own
                return EventResult(state, stack_rows(models))
            params = shown.params if isinstance(shown, Server) else shown
            if pulls is not None and stage == 1:
                sent, state = forged_when_due(here, event, params, stack_rows(models), state)
            else:
                sent, state = forged(here, event, params, stack_rows(models), state)
            return EventResult(state, sent)

        def forged(here: World, event: NodeEvent, params: Any, models: Any, state: Any) -> tuple[Any, Any]:
            assert agreement.forge is not None
            mine, server, arrived = receiver_of(here, stage, event, params, len(models))
            return agreement.forge(mine, event.turn, arrived, models, server, state)

        @jax.jit
        def forged_when_due(here: World, event: NodeEvent, params: Any, models: Any, state: Any) -> tuple[Any, Any]:
            return jax.lax.cond(
                is_due(event.turn), lambda: forged(here, event, params, models, state), lambda: (models, state)
            )

        return forge

    forging = partial(NodeStep, node_word="receiver", together="map", forges=True)
    between = Sending("peer", models=True, every=replicas.every)
    to_workers = Sending("down", models=True, every=1 if pulls is None else replicas.every)
    # a branch that is not taken computes nothing
    together = worker.together if pulls is None else "map"
    return (
        worker._replace(carry_out=work, transform=None, receives=None, together=together),
        NodeStep(UPDATE, "server", update, "server", together="map", sends=between),
        forging(forging_step(GATHER), forging_step(GATHER), build_forge(1), sends=between if agreement.forge else None),
        NodeStep(GATHER, "server", gather, "server", together="map", sends=to_workers, keeps=UPDATE),
        forging(forging_step(PULL), forging_step(PULL), build_forge(2), sends=to_workers if agreement.forge else None),
        NodeStep(PULL, "worker", pull, "worker", together="map"),
        NodeStep(SHOW, "server", show, "server", together="map"),
    )
