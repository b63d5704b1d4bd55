"""Pairwise gossip: a node that is done with its job exchanges models with one neighbour, and nobody waits."""

from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from byzax.aggregators import Aggregator
from byzax.members import nested
from byzax.options import NestedGraph, NestedMixing, OptionError, PartError, checked
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.run import Run
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Diagnostics, build_evaluate_models
from byzax.simulator.events import EventResult, Network, NewStates, NodeEvent, NodeStep, OfEvents, Sending, States
from byzax.simulator.graphs.base import NodeGraph, closed_neighbourhoods
from byzax.simulator.jobs import build_worker_step
from byzax.simulator.messages import stack_rows
from byzax.simulator.outages import check_servers
from byzax.simulator.periodic import by_step, check_in_step, check_peers, mean_of_counted, periodic_network
from byzax.simulator.receivers import EdgeWeights, UpdateReceiver, build_receivers, nodes_arrays, received_rows
from byzax.simulator.replica_steps import Trainee
from byzax.simulator.round_table import WORK, Message, RoundEvent, before
from byzax.simulator.rounds import Rounds, RoundStep
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.server import Server, public_state
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.world import World, byzantine_ranks

# The steps of an exchange after the job: both send, both mix, the worker takes the model for its next job, and the
# model that a peer shows to attackers.
SEND, MIX, TAKE, SHOW = "send", "mix", "take", "show"


@checked
def pairwise(
    n: int,
    f: int,
    *,
    graph: NestedGraph = "ring",
    mixing: NestedMixing | None = None,
    byzantine_neighbours: Annotated[int, Field(ge=0, le=1)] | None = None,
) -> Topology:
    """Asynchronous gossip in pairs: who is done with a job exchanges models with one neighbour, and nobody waits.

    Sends: two nodes their models to each other, one of them after a job
    Rule: over the two models of a pair

    Each node does one job after the other. When it has done one it draws one of its neighbours; both replace their
    models by the rule's aggregate of the two, the average by AD-PSGD, and the node then takes the step of the optimizer
    by the row of its job, which it computed at the model that it had when the job began: others may have changed its
    model since. An exchange is an update of the run, so that n of them are as much work as a round of `gossip`. One of
    which a message is lost, or a node dead, does not take place, and its row is lost.

    Byzantine nodes compute and mix by the protocol; what an honest node receives of one is forged for it. Evaluations
    are as those of `gossip`.

    Args:
        n: Number of nodes, at least 2.
        f: Number of Byzantine nodes among them.
        graph: The neighbours.
        mixing: The mixing in place of the rule, with weights of one half. None: the rule of the scenario.
        byzantine_neighbours: Number of Byzantine models among the two of a pair, which is the f of the rule. None: 1
            where a node is Byzantine.

    Returns:
        The topology.

    Raises:
        OptionError: For a graph that does not fit n, or leaves nodes without a way to each other.
        PartError: For an impossible n and f.

    References:
        Lian et al., ICML 2018 (AD-PSGD); Boyd et al., IEEE Trans. IT 2006, "Randomized gossip algorithms"
    """
    check_workers("pairwise", n, f)
    name, make_graph = nested("graph", "graph", graph, NodeGraph)
    drawn = make_graph(n)
    inboxes = closed_neighbourhoods(n, drawn.edges)
    if n < 2:
        raise PartError(f"pairwise needs n >= 2 nodes, got n={n}")
    if drawn.weights is not None:
        raise OptionError("graph", f"{name} gives weights, and the two of a pair weigh the same: leave them out")
    if mixing is not None:
        nested("mixing", "mixing", mixing, Aggregator)
    bound = min(f, 1) if byzantine_neighbours is None else byzantine_neighbours
    halves = EdgeWeights(tuple((0.5,) * n for _ in range(n)), partial=True)
    senders = tuple(tuple(inbox.tolist()) for inbox in inboxes)
    steps = (
        RoundStep(WORK, "worker", ((),) * n, works=True),
        RoundStep(SEND, "peer", ((),) * n),
        RoundStep(MIX, "peer", senders, SEND, 2),
        RoundStep(TAKE, "worker", ((),) * n),
        RoundStep(SHOW, "peer", ((),) * n),
    )
    return Topology(
        build=lambda parts: _network(parts, inboxes, None if mixing is None else halves),
        check=lambda run: _check(run, name, drawn, mixing is not None),
        inboxes=(2,),
        declared=lambda rows: bound,
        mixes=True,
        mixing=mixing,
        explain=lambda rows: "an exchange has two models",
        rounds=lambda run: Rounds(steps, MIX, tuple(np.flatnonzero(byzantine_ranks(run) < 0).tolist()), pairs=True),
        wire=("peer",),
    )


def _check(run: Run, name: str, graph: NodeGraph, mixes: bool) -> None:
    """Raises ValueError for what a run cannot have without a server, or on its graph."""
    check_peers(run, name, graph, mixes)
    check_servers(run, 0)
    check_in_step(run, may_lose=True, may_race=False)


def _network(parts: NetworkParts, inboxes: list[np.ndarray], weights: EdgeWeights | None) -> Network:
    n, byzantine = len(inboxes), np.asarray(parts.world.byzantine_rank) >= 0
    honest, core = np.flatnonzero(~byzantine), parts.core_of(2)
    receivers = build_receivers(
        parts, inboxes, quorum=2, peers=True, weights=weights, spared=np.flatnonzero(byzantine).tolist(), sent=SEND
    )

    def start(here: World) -> NewStates:
        begun = core.start(here)
        states = receivers.start(here, len(begun.params))
        states |= {("worker", i): Trainee(begun.params, states["worker", i]) for i in range(n)}
        return states | {("peer", i): begun for i in range(n)}

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        made = by_step(arrays)
        sent = nodes_arrays(made[SEND], n)
        return {
            "workers": np.arange(n),
            "rows": sent,
            "byzantine": byzantine,
            "forged": received_rows([(each[0], *each[2:]) for each in made[MIX]], n, *sent.shape),
            "aggregate": nodes_arrays([each[:2] for each in made[MIX]], n),
            "params": _models(states, np.arange(n)),
        }

    work, send, mix, take, show = _build_steps(core, receivers.update, byzantine.tobytes())
    return periodic_network(
        (work, send, receivers.forge, mix, take, show),
        [
            *(RoundEvent(WORK, i) for i in range(n)),
            *(RoundEvent(SEND, i) for i in range(n)),
            *receivers.forgeries(lambda receiver: before(SHOW, receiver)),
            *(RoundEvent(MIX, i, [*receivers.rows(i), Message(WORK, i)]) for i in range(n)),
            *(RoundEvent(TAKE, i, [Message(MIX, i)]) for i in range(n)),
            *(RoundEvent(SHOW, i) for i in range(n)),
        ],
        parts.timeline,
        start=start,
        show=_show,
        measure=_measure,
        arrays=put_together,
        evaluate=lambda here, states: build_evaluate_models(core.evaluate)(here, _models(states, honest)),
        params=lambda states: _models(states, honest).mean(axis=0),
        judged=("peer",),
        byzantine={"peer": np.flatnonzero(byzantine).tolist()},
    )


@compiled_once
def _build_steps(core: Core, update: UpdateReceiver, byzantine: bytes) -> tuple[NodeStep, ...]:
    worker = build_worker_step(core.work, core.memory, core.batch, core.even)

    def work(here: World, event: NodeEvent, trainee: Trainee, messages: Sequence[Any]) -> EventResult:
        memory, row, *_ = worker.run(here, event._replace(versions=(event.turn,)), trainee.memory, (trainee,))
        return EventResult(trainee._replace(memory=memory), row)

    def send(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        return EventResult(server, server.params, arrays=(event.node, server.params))

    def mix(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        models, row = messages[:2], messages[2:]
        server, diagnostics, decision = update(here, event, server, models)
        if row:
            params, optimizer = core.move(server.params, server.optimizer, row[0])
            server = server._replace(params=params, optimizer=optimizer)
        seen = diagnostics, decision.weights, jnp.asarray(~np.frombuffer(byzantine, bool))[event.node]
        arrays = event.node, decision.aggregate, event.senders[:2], stack_rows(models)
        return EventResult(server, server.params, seen, arrays)

    def take(here: World, event: NodeEvent, trainee: Trainee, messages: Sequence[Any]) -> EventResult:
        return EventResult(trainee._replace(params=messages[0]), messages[0])

    def show(here: World, event: NodeEvent, server: Server, messages: Sequence[Any]) -> EventResult:
        return EventResult(server, public_state(server))

    return (
        worker._replace(carry_out=work, transform=None, sends=None, receives=None),
        NodeStep(SEND, "peer", send, "node", together="map", sends=Sending("peer", models=True)),
        NodeStep(MIX, "peer", mix, "node", together="map", keeps=SEND),
        NodeStep(TAKE, "worker", take, "node", together="map"),
        NodeStep(SHOW, "peer", show, "node", together="map"),
    )


def _show(state: Server | Trainee) -> Any:
    return state.params if isinstance(state, Trainee) else public_state(state)


def _measure(seen: OfEvents, happened: jax.Array | None = None) -> tuple[Diagnostics, Any]:
    """The means over the honest nodes of the pair."""
    return mean_of_counted(seen, MIX, happened)


def _models(states: States, nodes: np.ndarray) -> jax.Array:
    return jnp.stack([states["peer", i].params for i in nodes.tolist()])
