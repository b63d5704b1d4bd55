"""Servers with models of their own, of which some may be Byzantine, and workers that hear several of them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.attacks.base import nested
from byzax.options import Nested, OptionError, PartError
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.part import Choice, Part
from byzax.simulator.config.run import Run
from byzax.simulator.core import Agreement, Core, build_agreement
from byzax.simulator.diagnostics import Diagnostics, build_evaluate_models
from byzax.simulator.events import EventResult, Network, NewStates, NodeEvent, NodeStep, OfEvents, Sending, States
from byzax.simulator.jobs import build_worker_step
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.messages import stack_rows
from byzax.simulator.outages import check_servers
from byzax.simulator.periodic import by_step, check_in_step, mean_of_counted, periodic_network
from byzax.simulator.receivers import UpdateReceiver, build_receivers, nodes_arrays, received_rows
from byzax.simulator.round_table import WORK, Message, RoundEvent, before
from byzax.simulator.rounds import Rounds, RoundStep
from byzax.simulator.senders import Arrivals
from byzax.simulator.server import Server, public_state
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.world import World

# The steps of a round after the job: the server's update, the servers' agreement, the workers' agreement, and the model
# that a server shows to attackers.
UPDATE, GATHER, PULL, SHOW = "update", "gather", "pull", "show"
# The rule by which nodes agree.
MEDIAN: Part = Choice("rule").validate("median")


class Replicas(NamedTuple):
    """The servers of a run.

    Attributes:
        servers: Their number.
        byzantine: Number of Byzantine ones, the first of them.
        models: Number of models that a node waits for.
        rows: Number of rows that a server waits for.
        every: Rounds from one in which servers exchange models to the next.
    """

    servers: int
    byzantine: int
    models: int
    rows: int
    every: int

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
    """

    params: Any
    memory: Any


def check_quorum(what: str, n: int, f: int, quorum: int | None, more: int, unproven: bool = False) -> int:
    """The number of messages that a node waits for, of n senders of which f may be Byzantine.

    Args:
        what: The senders, "servers" or "workers", for messages.
        n: Their number.
        f: Number of Byzantine ones among them.
        quorum: The number asked for; None for n - f.
        more: n must be at least 3f + more, and the number at least 2f + more.
        unproven: Whether any n and any number from 1 to n will do.

    Returns:
        The number.

    Raises:
        OptionError: For servers, or a number, that do not fit.
        PartError: For workers that do not fit.
    """
    if unproven:
        if f > n:
            raise OptionError(f"byzantine_{what}", f"is {f}, and there are {n} {what}")
        if quorum is not None and quorum > n:
            raise OptionError(f"quorum_{what}", f"is {quorum}, and there are {n} {what}")
        return max(n - f, 1) if quorum is None else quorum
    if n < 3 * f + more:
        byzantine = "byzantine_servers" if what == "servers" else "f"
        needed = f"must be at least 3 {byzantine} + {more} = {3 * f + more} with {byzantine}={f}, got {n}"
        if what == "servers":
            raise OptionError("servers", f"{needed}: take more servers, fewer Byzantine ones, or unproven true")
        raise PartError(f"n {needed}: take more workers, fewer Byzantine ones, or topology.unproven true")
    if quorum is None:
        return n - f
    if not 2 * f + more <= quorum <= n - f:
        raise OptionError(f"quorum_{what}", f"must be {2 * f + more} to {n - f} with {n} {what}, got {quorum}")
    return quorum


def build_replicated(n: int, f: int, replicas: Replicas, attack: Nested) -> Topology:
    """Builds a topology of servers with models of their own.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        replicas: The servers.
        attack: The attack of Byzantine servers.

    Returns:
        The topology.

    Raises:
        OptionError: For an attack that forges no models.
    """
    _check_attack(attack, replicas)
    everyone, all_servers = (tuple(range(count)) for count in (n, replicas.servers))
    of_servers = (all_servers,) * replicas.servers
    steps = (
        RoundStep(WORK, "worker", ((),) * n, works=True),
        RoundStep(UPDATE, "server", (everyone,) * replicas.servers, WORK, replicas.rows),
        RoundStep(GATHER, "server", of_servers, UPDATE, replicas.models, every=replicas.every),
        RoundStep(PULL, "worker", (all_servers,) * n, GATHER, replicas.models),
    )
    return Topology(
        build=lambda parts: _network(parts, replicas),
        check=lambda run: _check(run, replicas),
        inboxes=(replicas.rows,),
        declared=lambda rows: f,
        rounds=lambda run: Rounds(steps, GATHER, replicas.measured),
        wire=("up", "down", "peer"),
    )


def _check_attack(attack: Nested, replicas: Replicas) -> None:
    if not replicas.byzantine:
        return
    label, make = nested("server_attack", attack)
    made = make(replicas.servers, replicas.byzantine)
    if made.forge is None and label != "none":
        raise OptionError("server_attack", f"{label} forges no models: take random_model")
    if "loss" in made.needs:
        raise OptionError("server_attack", f"{label} measures losses on data, and servers have none: take little")


def _check(run: Run, replicas: Replicas) -> None:
    check_servers(run, replicas.servers)
    if run.regularisation.max_norm is not None:
        # medians of bounded models are not bounded
        raise PartError(f"{run.topology.label}: bounds no model: leave regularisation.max_norm out")
    if not replicas.honest and run.workers.byzantine.count == run.workers.total:
        raise PartError(
            f"{run.topology.label}: without an honest server the models of the honest workers are measured: leave one "
            "of them honest"
        )
    if not replicas.honest and run.clock == "wall":
        raise PartError(
            f"{run.topology.label}: without an honest server the models of workers are measured, which are not all in "
            "the same round of a race: take clock virtual, or leave one server honest"
        )
    check_in_step(run, may_lose=True)


def _network(parts: NetworkParts, replicas: Replicas) -> Network:
    n, here = len(parts.world.sizes), parts.world
    core, honest = parts.core_of(replicas.rows), replicas.honest
    byzantine_workers = np.asarray(here.byzantine_rank) >= 0
    everyone, servers = np.arange(n), range(replicas.servers)
    # Byzantine nodes compute by the protocol
    receivers = build_receivers(
        parts, [everyone] * replicas.servers, quorum=replicas.rows, spared=range(replicas.byzantine)
    )
    attack: Part = getattr(parts.run.topology, "server_attack")  # noqa: B009
    agreement = build_agreement(
        parts.run.replace(seed=0), MEDIAN, attack, replicas.servers, replicas.byzantine, replicas.models
    )
    forges = agreement.forge is not None
    misled = {
        GATHER: honest if forges else (),
        PULL: tuple(np.flatnonzero(~byzantine_workers).tolist()) if forges else (),
    }

    def models_for(step: str, receiver: int) -> list[Message]:
        sent = UPDATE if step == GATHER else GATHER
        return [
            Message(_forging(step), receiver, server)
            if receiver in misled[step] and server < replicas.byzantine
            else Message(sent, server)
            for server in servers
        ]

    def forgeries(step: str) -> list[RoundEvent]:
        sent, shown = (UPDATE, SHOW) if step == GATHER else (GATHER, PULL)
        return [
            RoundEvent(
                _forging(step), receiver, [*(Message(sent, server) for server in servers), before(shown, receiver)]
            )
            for receiver in misled[step]
        ]

    def start(here: World) -> NewStates:
        server = core.start(here)
        states = receivers.start(here, len(server.params))
        states |= {("worker", i): Trainee(server.params, states["worker", i]) for i in range(n)}
        states |= {("server", i): server for i in servers}
        liar = agreement.init_adversary(len(server.params))
        return states | {
            (_forging(step), i): liar for step, those in misled.items() for i in range(max(those, default=-1) + 1)
        }

    # without an honest server what honest workers have of them
    measured = [("server", i) for i in honest] or [("worker", i) for i in np.flatnonzero(~byzantine_workers).tolist()]

    def models(states: States) -> jax.Array:
        return jnp.stack([states[node].params for node in measured])

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        made = by_step(arrays)
        computed, d = nodes_arrays(made[WORK], n), made[WORK][0][1].shape[0]
        aggregates = nodes_arrays([each[:2] for each in made[UPDATE]], replicas.servers)
        received = received_rows([(each[0], *each[2:]) for each in made[UPDATE]], replicas.servers, n, d)
        return {
            "workers": everyone,
            "rows": computed,
            "byzantine": byzantine_workers,
            "forged": received,
            "aggregate": aggregates,
            "params": jnp.stack([states["server", i].params for i in servers]),
        }

    steps = _build_steps(core, receivers.update, agreement, replicas)
    return periodic_network(
        (steps[0], receivers.forge, *steps[1:]),
        [
            *(RoundEvent(WORK, i) for i in range(n)),
            *receivers.forgeries(lambda server: before(SHOW, server)),
            *(RoundEvent(UPDATE, i, receivers.rows(i)) for i in servers),
            *forgeries(GATHER),
            *(RoundEvent(GATHER, i, models_for(GATHER, i)) for i in servers),
            *forgeries(PULL),
            *(RoundEvent(PULL, i, models_for(PULL, i)) for i in range(n)),
            *(RoundEvent(SHOW, i) for i in servers),
        ],
        parts.timeline,
        start=start,
        show=_show,
        measure=_measure,
        arrays=put_together,
        evaluate=lambda here, states: build_evaluate_models(core.evaluate)(here, models(states)),
        params=lambda states: models(states).mean(axis=0),
        judged=("server",) if honest else ("server", "worker"),
        byzantine={"server": range(replicas.byzantine)},
    )


def _forging(step: str) -> str:
    """The step that forges the models which another one reads, and the kind of its nodes."""
    return f"forge {step}"


def _show(state: Server | Trainee) -> Any:
    return state.params if isinstance(state, Trainee) else public_state(state)


@compiled_once
def _build_steps(
    core: Core, update_receiver: UpdateReceiver, agreement: Agreement, replicas: Replicas
) -> tuple[NodeStep, ...]:
    worker = build_worker_step(core.work, core.memory, core.batch)

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

    def agree(here: World, stage: int, event: NodeEvent, params: Any, messages: Sequence[Any]) -> Any:
        if len(messages) == 1:
            return stack_rows(messages)[0]
        mine, state, arrived = receiver_of(here, stage, event, params, len(messages))
        after, _, _ = agreement.update(mine, state, arrived, stack_rows(messages))
        return after.params

    def work(here: World, event: NodeEvent, trainee: Trainee, messages: Sequence[Any]) -> EventResult:
        memory, row, *_ = worker.run(here, event._replace(versions=(event.turn,)), trainee.memory, (trainee,))
        return EventResult(trainee._replace(memory=memory), row, arrays=(event.node, row))

    def update(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        server, diagnostics, decision = update_receiver(here, event, server, messages)
        seen = diagnostics, decision.weights, event.node >= (replicas.byzantine if replicas.honest else 0)
        return EventResult(
            server, server.params, seen, (event.node, decision.aggregate, event.senders, stack_rows(messages))
        )

    def gather(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        server = server._replace(params=agree(here, 1, event, server.params, messages))
        return EventResult(server, server.params)

    def pull(here: World, event: NodeEvent, trainee: Trainee, messages: Sequence[Any]) -> EventResult:
        trainee = trainee._replace(params=agree(here, 2, event, trainee.params, messages))
        return EventResult(trainee, trainee.params)

    def show(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        return EventResult(server, public_state(server))

    def build_forge(stage: int) -> Callable[..., EventResult]:
        def forge(here: World, event: NodeEvent, state: Any, messages: Sequence[Any]) -> EventResult:
            assert agreement.forge is not None
            models, shown = messages[:-1], messages[-1]
            if len(models) < replicas.models:
                # a server that goes on with its own
                return EventResult(state, stack_rows(models))
            params = shown.params if isinstance(shown, Server) else shown
            mine, server, arrived = receiver_of(here, stage, event, params, len(models))
            sent, state = agreement.forge(mine, event.turn, arrived, stack_rows(models), server, state)
            return EventResult(state, sent)

        return forge

    forging = partial(NodeStep, node_word="receiver", together="map", forges=True)
    between, to_workers = Sending("peer", models=True, every=replicas.every), Sending("down", models=True)
    return (
        worker._replace(carry_out=work, transform=None, receives=None),
        NodeStep(UPDATE, "server", update, "server", together="map", sends=between),
        forging(_forging(GATHER), _forging(GATHER), build_forge(1), sends=between if agreement.forge else None),
        NodeStep(GATHER, "server", gather, "server", together="map", sends=to_workers, keeps=UPDATE),
        forging(_forging(PULL), _forging(PULL), build_forge(2), sends=to_workers if agreement.forge else None),
        NodeStep(PULL, "worker", pull, "worker", together="map"),
        NodeStep(SHOW, "server", show, "server", together="map"),
    )


def _measure(seen: OfEvents, happened: jax.Array | None = None) -> tuple[Diagnostics, Any]:
    return mean_of_counted(seen, UPDATE, happened)
