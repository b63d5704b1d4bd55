"""Gossip: every node trains a model of its own, and takes the rule over the models of its neighbours."""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

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
from byzax.simulator.events import (
    EventResult,
    MeasureUpdate,
    Network,
    NewStates,
    NodeEvent,
    NodeStep,
    OfEvents,
    Sending,
    States,
)
from byzax.simulator.graphs.base import NodeGraph, closed_neighbourhoods, edge_weights
from byzax.simulator.jobs import build_worker_step
from byzax.simulator.messages import stack_rows
from byzax.simulator.periodic import by_step, check_in_step, mean_measurements, periodic_network
from byzax.simulator.receivers import UpdateReceiver, build_receivers
from byzax.simulator.round_table import RoundEvent, before
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.server import Server, public_state
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.world import World


@checked
def gossip(
    n: int,
    f: int,
    *,
    graph: NestedGraph = "ring",
    mixing: NestedMixing | None = None,
    byzantine_neighbours: Annotated[int, Field(ge=0)] | None = None,
) -> Topology:
    """Decentralised training: nodes send models to their neighbours, and there is no server.

    Sends: every node its model after a step of its own, to all neighbours
    Rule: over the models of the neighbours and the node's own

    In each round a node computes a row by its job (a gradient or local steps, with its momentum), takes the step of the
    optimizer, sends the model that it gets to its neighbours, and replaces it by the rule's aggregate of what it
    received and its own. Byzantine nodes compute and mix by the protocol; what honest neighbours receive of them is
    forged for each of these apart, by an attack that knows what the receiver received and its model at the beginning of
    the round. All nodes wait for all others in every round.

    Evaluations are means over the honest nodes, with the accuracy of the worst of them and their consensus distance:
    the root of the mean squared distance of their models from the mean model, which is the model that is kept.

    Args:
        n: Number of nodes.
        f: Number of Byzantine nodes among them.
        graph: The neighbours.
        mixing: The mixing in place of the rule: it knows which model is the node's own, and the weights of edges.
            None: the rule of the scenario.
        byzantine_neighbours: Largest number of Byzantine neighbours of a node, which is the f of its rule. None: all f,
            or as many as a node has neighbours.

    Returns:
        The topology.

    Raises:
        OptionError: For a graph that does not fit n, or leaves nodes without a way to each other; for more Byzantine
            neighbours than a node has neighbours.
        PartError: For an impossible n and f.

    References:
        Lian et al., NeurIPS 2017 (D-PSGD); He, Karimireddy, Jaggi 2022 (ClippedGossip); Farhadkhani et al., ICML 2023
    """
    check_workers("gossip", n, f)
    name, make_graph = nested("graph", "graph", graph, NodeGraph)
    drawn = make_graph(n)
    inboxes = closed_neighbourhoods(n, drawn.edges)
    weights = edge_weights(drawn, inboxes)
    if mixing is not None:
        nested("mixing", "mixing", mixing, Aggregator)
    sizes = tuple(sorted({len(each) for each in inboxes}))
    if byzantine_neighbours is not None and byzantine_neighbours >= sizes[-1]:
        raise OptionError("byzantine_neighbours", f"is {byzantine_neighbours}, and a node has at most {sizes[-1] - 1}")
    bound = f if byzantine_neighbours is None else byzantine_neighbours
    # where the graph says who is Byzantine, what the others mix harms nobody
    honest_sizes = {len(each) for each in inboxes[drawn.byzantine or 0 :]}

    def explain(rows: int) -> str:
        node = next(i for i, each in enumerate(inboxes) if len(each) == rows)
        return f"node {node} has {rows - 1} neighbour{'s' * (rows != 2)}"

    return Topology(
        build=lambda parts: _network(parts, inboxes, None if mixing is None else weights),
        check=lambda run: _check(run, name, drawn, mixing is not None),
        inboxes=sizes,
        declared=lambda rows: min(bound, rows - 1) if rows in honest_sizes else 0,
        mixes=True,
        mixing=mixing,
        explain=explain,
        wire=("peer",),
    )


def _check(run: Run, name: str, graph: NodeGraph, mixes: bool) -> None:
    """Raises ValueError for what a run cannot have without a server, or on its graph."""
    byzantine = run.workers.byzantine
    refused = [
        (byzantine.count == run.workers.total, "what is measured are the honest nodes: leave one of them honest"),
        (graph.byzantine not in (None, byzantine.count) or (graph.byzantine is not None and byzantine.which != "first"),
         f"in the graph {name} the first {graph.byzantine} nodes are Byzantine: take workers.byzantine "
         f"{graph.byzantine}, and which first"),
        (run.weights != "equal", "weighs by the graph: leave weights out, or take topology.mixing weighted_average"),
        (run.regularisation.max_norm is not None, "has no server that bounds the model: leave "
         "regularisation.max_norm out"),
        (mixes and (run.rule.name != "average" or bool(run.pre)),
         "mixing takes the place of the rule: leave rule and pre out, or mixing"),
    ]  # fmt: skip
    for wrong, words in refused:
        if wrong:
            raise PartError(f"gossip: {words}")
    check_in_step(run)


class Peer(NamedTuple):
    """The state of a node.

    Attributes:
        server: Its model, and the states of its optimizer and rule.
        memory: Its memory across jobs; None for none.
    """

    server: Server
    memory: Any


def _network(parts: NetworkParts, inboxes: list[np.ndarray], weights: np.ndarray | None) -> Network:
    core_of = parts.core_of
    n, byzantine = len(inboxes), np.asarray(parts.world.byzantine_rank) >= 0
    honest = np.flatnonzero(~byzantine)
    core = core_of(len(inboxes[0]))
    # a node forges nothing for itself, nor for those of its kind
    receivers = build_receivers(parts, inboxes, peers=True, weights=weights, spared=np.flatnonzero(byzantine).tolist())

    def start(here: World) -> NewStates:
        begun = {size: core_of(size).start(here) for size in {len(each) for each in inboxes}}
        states = receivers.start(here, len(begun[len(inboxes[0])].params))
        return states | {("worker", i): Peer(begun[len(inbox)], states["worker", i]) for i, inbox in enumerate(inboxes)}

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        made = by_step(arrays)
        halves = jnp.stack(made["work"])
        aggregates, rows = zip(*made["mix"], strict=True)
        received = np.full((n, *halves.shape), np.nan, halves.dtype)
        for i, inbox in enumerate(inboxes):
            received[i, inbox] = rows[i]
        return {
            "workers": np.arange(n),
            "rows": halves,
            "byzantine": byzantine,
            "forged": received,
            "aggregate": jnp.stack(aggregates),
            "params": _models(states, np.arange(n)),
        }

    work, mix = _build_steps(core, receivers.update)
    return periodic_network(
        (work, receivers.forge, mix),
        [
            *(RoundEvent("work", i) for i in range(n)),
            *receivers.forgeries(lambda receiver: before("mix", receiver)),
            *(RoundEvent("mix", i, receivers.rows(i)) for i in range(n)),
        ],
        parts.timeline,
        start=start,
        show=_show,
        measure=_build_measure(tuple(honest.tolist())),
        arrays=put_together,
        evaluate=lambda here, states: build_evaluate_models(core.evaluate)(here, _models(states, honest)),
        params=lambda states: _models(states, honest).mean(axis=0),
        judged=("worker",),
    )


@compiled_once
def _build_steps(core: Core, update: UpdateReceiver) -> tuple[NodeStep, NodeStep]:
    worker = build_worker_step(core.work, core.memory, core.batch)

    def work(here: World, event: NodeEvent, peer: Peer, messages: Sequence[Any]) -> EventResult:
        server = peer.server
        memory, row, *_ = worker.run(here, event._replace(versions=(event.turn,)), peer.memory, (server,))
        half, optimizer = core.move(server.params, server.optimizer, row)
        return EventResult(Peer(server._replace(optimizer=optimizer), memory), half, arrays=half)

    def mix(here: World, event: NodeEvent, peer: Peer, messages: Sequence[Any]) -> EventResult:
        server, diagnostics, decision = update(here, event, peer.server, messages)
        seen, arrays = (diagnostics, decision.weights), (decision.aggregate, stack_rows(messages))
        return EventResult(peer._replace(server=server), public_state(server), seen, arrays)

    return (
        worker._replace(carry_out=work, transform=None, sends=Sending("peer", models=True), receives=None),
        NodeStep("mix", "worker", mix, "node", together="map", keeps="work"),
    )


def _show(peer: Peer) -> Server:
    return public_state(peer.server)


@compiled_once
def _build_measure(honest: tuple[int, ...]) -> MeasureUpdate:
    """The means over the honest nodes."""

    def measure(seen: OfEvents) -> tuple[Diagnostics, Any]:
        mixed = by_step(seen)["mix"]
        return mean_measurements([mixed[i] for i in honest])

    return measure


def _models(states: States, nodes: np.ndarray) -> jax.Array:
    return jnp.stack([states["worker", i].server.params for i in nodes.tolist()])
