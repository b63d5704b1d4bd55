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
from byzax.simulator.outages import check_servers
from byzax.simulator.periodic import (
    by_step,
    check_in_step,
    check_peers,
    mean_measurements,
    mean_of_counted,
    periodic_network,
)
from byzax.simulator.receivers import EdgeWeights, UpdateReceiver, build_receivers, nodes_arrays, received_rows
from byzax.simulator.redrawing import build_redrawn
from byzax.simulator.round_table import Message, RoundEvent, before
from byzax.simulator.rounds import Rounds, RoundStep
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.server import Server, public_state
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.tracking import Tracker, follow_row, mix_directions, start_tracker
from byzax.simulator.world import World, byzantine_ranks


@checked
def gossip(
    n: int,
    f: int,
    *,
    graph: NestedGraph = "ring",
    mixing: NestedMixing | None = None,
    byzantine_neighbours: Annotated[int, Field(ge=0)] | None = None,
    quorum: Annotated[int, Field(ge=1)] | None = None,
    redraw_every: Annotated[int, Field(ge=1)] | None = None,
    tracking: bool = False,
) -> Topology:
    """Decentralised training: nodes send models to their neighbours, and there is no server.

    Sends: every node its model after a step of its own, to all neighbours
    Rule: over the models of the neighbours and the node's own

    In each round a node computes a row by its job (a gradient or local steps, with its momentum), takes the step of the
    optimizer, sends the model that it gets to its neighbours, and replaces it by the rule's aggregate of what it
    received and its own. Byzantine nodes compute and mix by the protocol; what honest neighbours receive of them is
    forged for each of these apart, by an attack that knows what the receiver received and its model at the beginning of
    the round. All nodes wait for all others in every round; with a quorum, and where the graph is drawn anew, each
    waits for neighbours alone, by the delays of the links between them (`latency.peer`).

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
        quorum: Number of neighbours whose models of the round a node waits for, the first to arrive, or all where it
            has fewer; one that gets too few goes on with its own model. None: all of them.
        redraw_every: Rounds after which the graph is drawn anew, by its seed and that of the run. None: it stays.
        tracking: Whether nodes send a second vector with the model, by which each tracks the mean row of all, and step
            by that and not by their own rows: gradient tracking, without Byzantine nodes.

    Returns:
        The topology.

    Raises:
        OptionError: For a graph that does not fit n, or leaves nodes without a way to each other; for more Byzantine
            neighbours than a node has neighbours; for tracking without weights of edges, or where nodes do not all wait
            for all others.
        PartError: For an impossible n and f.

    References:
        Lian et al. 2017 (D-PSGD); He et al. 2022 (ClippedGossip); Luo et al. 2019 (quorums); Nedic et al. 2017 (DIGing)
    """
    check_workers("gossip", n, f)
    name, make_graph = nested("graph", "graph", graph, NodeGraph)
    drawn = make_graph(n)
    mixed_by = None if mixing is None else nested("mixing", "mixing", mixing, Aggregator)[0]
    if tracking and (mixed_by != "weighted_average" or quorum is not None or redraw_every is not None):
        raise OptionError(
            "tracking", "is for the weights of edges and for all messages: take mixing weighted_average, and leave "
            "quorum and redraw_every out"
        )  # fmt: skip
    if redraw_every is None:
        inboxes, joined = closed_neighbourhoods(n, drawn.edges), None
        around = [len(inbox) - 1 for inbox in inboxes]
        degrees = around
        # where the graph says who is Byzantine, what the others mix harms nobody
        honest = around[drawn.byzantine or 0 :]
        given = tuple(map(tuple, edge_weights(drawn, inboxes).tolist()))
    else:
        redrawn = build_redrawn(n, graph, make_graph, redraw_every)
        inboxes, joined = [np.arange(n)] * n, redrawn.joined
        degrees = honest = redrawn.sizes
        around, given = [max(degrees)] * n, None
    most = n if quorum is None else quorum

    def rows_of(neighbours: int) -> int:
        return 1 + min(neighbours, most)

    waits = joined is not None or quorum is not None
    sizes = tuple(sorted({rows_of(each) for each in degrees if each or not waits} or {1}))
    if byzantine_neighbours is not None and byzantine_neighbours >= sizes[-1]:
        raise OptionError("byzantine_neighbours", f"is {byzantine_neighbours}, and a node has at most {sizes[-1] - 1}")
    bound = f if byzantine_neighbours is None else byzantine_neighbours
    honest_sizes = {rows_of(each) for each in honest}

    def explain(rows: int) -> str:
        if joined is not None:
            return f"in some rounds a node has {counted(rows - 1)}: take a graph in which all have as many"
        node = next(i for i, each in enumerate(around) if rows_of(each) == rows)
        waiting = f", and waits for {quorum} of them" if around[node] >= rows else ""
        return f"node {node} has {counted(around[node])}{waiting}"

    def rounds(run: Run) -> Rounds:
        senders = tuple(tuple(inbox.tolist()) for inbox in inboxes)
        steps = (
            RoundStep("work", "worker", ((),) * n, works=True),
            RoundStep("mix", "worker", senders, "work", rows_of(max(around)), alone=True, joined=joined),
        )
        return Rounds(steps, "mix", tuple(np.flatnonzero(byzantine_ranks(run) < 0).tolist()))

    def neighbours_of(run: Run) -> np.ndarray:
        assert joined is not None
        return np.array([joined(run.seed, t).sum(axis=1) - 1 for t in range(run.steps)])

    weights = None if mixing is None else EdgeWeights(given, partial=waits)
    return Topology(
        build=lambda parts: _network(parts, inboxes, rows_of(around[0]), weights, waits, tracking),
        check=lambda run: _check(run, name, drawn, mixing is not None, waits, tracking),
        inboxes=sizes,
        declared=lambda rows: min(bound, rows - 1) if rows in honest_sizes else 0,
        mixes=True,
        mixing=mixing,
        explain=explain,
        rounds=rounds if waits else None,
        degrees=None if joined is None or mixing is None else neighbours_of,
        wire=("peer",),
    )


def counted(neighbours: int) -> str:
    """So many neighbours in words."""
    return f"{neighbours} neighbour{'s' * (neighbours != 1)}"


def _check(run: Run, name: str, graph: NodeGraph, mixes: bool, waits: bool, tracks: bool) -> None:
    """Raises ValueError for what a run cannot have without a server, or on its graph."""
    check_peers(run, name, graph, mixes)
    if run.latency.mishaps and not waits:
        raise PartError(
            "gossip: all nodes wait for all others: leave latency.loss, latency.crashes and latency.outages out, or "
            "give topology.quorum"
        )
    if tracks and (run.workers.byzantine.count or run.sends_models):
        raise PartError(
            "gossip: what is tracked is the mean of rows that nobody forges: with topology.tracking take "
            "workers.byzantine 0, and leave local.send model out"
        )
    check_servers(run, 0)
    check_in_step(run, may_lose=waits)


class Peer(NamedTuple):
    """The state of a node.

    Attributes:
        server: Its model, and the states of its optimizer and rule.
        memory: Its memory across jobs; None for none.
        tracker: Its estimate of the mean row; None without gradient tracking.
    """

    server: Server
    memory: Any
    tracker: Tracker | None = None


def _network(
    parts: NetworkParts,
    inboxes: list[np.ndarray],
    rows: int,
    weights: EdgeWeights | None,
    waits: bool,
    tracks: bool,
) -> Network:
    core_of = parts.core_of
    n, byzantine = len(inboxes), np.asarray(parts.world.byzantine_rank) >= 0
    honest = np.flatnonzero(~byzantine)
    core = core_of(rows)
    # a node forges nothing for itself, nor for those of its kind
    receivers = build_receivers(
        parts, inboxes, quorum=rows, peers=True, weights=weights, spared=np.flatnonzero(byzantine).tolist()
    )

    def start(here: World) -> NewStates:
        # the state of a rule that sees other numbers of rows is as large
        begun = core.start(here)
        states = receivers.start(here, len(begun.params))
        tracker = start_tracker(len(begun.params)) if tracks else None
        return states | {("worker", i): Peer(begun, states["worker", i], tracker) for i in range(n)}

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        made = by_step(arrays)
        halves = nodes_arrays(made["work"], n)
        return {
            "workers": np.arange(n),
            "rows": halves,
            "byzantine": byzantine,
            "forged": received_rows([(each[0], *each[2:]) for each in made["mix"]], n, *halves.shape),
            "aggregate": nodes_arrays([each[:2] for each in made["mix"]], n),
            "params": _models(states, np.arange(n)),
        }

    steps = _build_steps(core, receivers.update, byzantine.tobytes() if waits else None, weights)
    work, mix, track, gather = steps
    sent = [RoundEvent("track", i) for i in range(n)]
    tracked = [RoundEvent("gather", i, [Message("track", int(j)) for j in inboxes[i]]) for i in range(n)]
    return periodic_network(
        (work, receivers.forge, mix, *((track, gather) if tracks else ())),
        [
            *(RoundEvent("work", i) for i in range(n)),
            *(sent if tracks else ()),
            *receivers.forgeries(lambda receiver: before("mix", receiver)),
            *(RoundEvent("mix", i, receivers.rows(i)) for i in range(n)),
            *(tracked if tracks else ()),
        ],
        parts.timeline,
        start=start,
        show=_show,
        measure=_measure_some if waits else _build_measure(tuple(honest.tolist())),
        arrays=put_together,
        evaluate=lambda here, states: build_evaluate_models(core.evaluate)(here, _models(states, honest)),
        params=lambda states: _models(states, honest).mean(axis=0),
        judged=("worker",),
    )


@compiled_once
def _build_steps(
    core: Core, update: UpdateReceiver, byzantine: bytes | None, weights: EdgeWeights | None
) -> tuple[NodeStep, ...]:
    """The steps of nodes; with the Byzantine ones, as truth values, where some may not mix in a round."""
    worker = build_worker_step(core.work, core.memory, core.batch, core.even)

    def work(here: World, event: NodeEvent, peer: Peer, messages: Sequence[Any]) -> EventResult:
        server = peer.server
        memory, row, *_ = worker.run(here, event._replace(versions=(event.turn,)), peer.memory, (server,))
        tracker = None if peer.tracker is None else follow_row(peer.tracker, row)
        descent = row if tracker is None else tracker.direction
        half, optimizer = core.move(server.params, server.optimizer, descent)
        return EventResult(Peer(server._replace(optimizer=optimizer), memory, tracker), half, arrays=(event.node, half))

    def track(here: World, event: NodeEvent, peer: Peer, messages: Sequence[Any]) -> EventResult:
        assert peer.tracker is not None
        return EventResult(peer, peer.tracker.direction)

    def gather(here: World, event: NodeEvent, peer: Peer, messages: Sequence[Any]) -> EventResult:
        assert peer.tracker is not None
        assert weights is not None
        mixed = mix_directions(weights, event, messages)
        return EventResult(peer._replace(tracker=peer.tracker._replace(direction=mixed)), mixed)

    def mix(here: World, event: NodeEvent, peer: Peer, messages: Sequence[Any]) -> EventResult:
        rows = stack_rows(messages)
        if byzantine is not None and len(messages) == 1:
            # its own alone
            server = peer.server._replace(params=messages[0], step=jnp.asarray(event.turn, jnp.int32) + 1)
            nothing = Diagnostics(*[jnp.zeros(())] * len(Diagnostics._fields))
            seen = nothing, jnp.zeros(len(here.sizes)), jnp.asarray(False)
            aggregate = messages[0]
        else:
            server, diagnostics, decision = update(here, event, peer.server, messages)
            seen, aggregate = (diagnostics, decision.weights), decision.aggregate
            if byzantine is not None:
                seen = *seen, jnp.asarray(~np.frombuffer(byzantine, bool))[event.node]
        arrays = event.node, aggregate, event.senders, rows
        return EventResult(peer._replace(server=server), public_state(server), seen, arrays)

    return (
        worker._replace(carry_out=work, transform=None, sends=Sending("peer", models=True), receives=None),
        NodeStep("mix", "worker", mix, "node", together="map", keeps="work"),
        NodeStep("track", "worker", track, "node", together="map", sends=Sending("peer", second=True)),
        NodeStep("gather", "worker", gather, "node", together="map", keeps="track"),
    )


def _show(peer: Peer) -> Server:
    return public_state(peer.server)


@compiled_once
def _build_measure(honest: tuple[int, ...]) -> MeasureUpdate:
    """The means over the honest nodes."""

    def measure(seen: OfEvents, happened: Any = None) -> tuple[Diagnostics, Any]:
        mixed = by_step(seen)["mix"]
        return mean_measurements([mixed[i] for i in honest])

    return measure


def _measure_some(seen: OfEvents, happened: jax.Array | None = None) -> tuple[Diagnostics, Any]:
    """The means over the honest nodes that mixed."""
    return mean_of_counted(seen, "mix", happened)


def _models(states: States, nodes: np.ndarray) -> jax.Array:
    return jnp.stack([states["worker", i].server.params for i in nodes.tolist()])
