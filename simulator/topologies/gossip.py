"""Gossip: every node trains a model of its own, and takes the rule over the models of its neighbours."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field, Strict

from byzax.options import OptionError, PartError, checked
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
    States,
)
from byzax.simulator.jobs import build_worker_step
from byzax.simulator.messages import stack_rows
from byzax.simulator.periodic import by_step, check_in_step, mean_measurements, periodic_network
from byzax.simulator.receivers import UpdateReceiver, build_receivers
from byzax.simulator.round_table import RoundEvent, before
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.server import Server, public_state
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.world import World

Edge = Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], Strict(False)]
Graph = Literal["ring", "complete", "torus"] | tuple[Edge, ...]


@checked
def gossip(
    n: int,
    f: int,
    *,
    graph: Graph = "ring",
    weights: Literal["equal", "metropolis"] = "equal",
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
        graph: The neighbours: `ring`, `torus` (a grid of rows and columns that is closed at its edges, as nearly
            square as n allows), `complete`, or a list of pairs of node numbers.
        weights: Weights of the models that a node received: `metropolis`, 1 / (1 + the larger number of neighbours of
            the two), with what is left for its own, is for the rule average.
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
    inboxes = closed_neighbourhoods(n, graph)
    sizes = tuple(sorted({len(each) for each in inboxes}))
    bound = f if byzantine_neighbours is None else byzantine_neighbours
    if byzantine_neighbours is not None and byzantine_neighbours >= sizes[-1]:
        raise OptionError("byzantine_neighbours", f"is {byzantine_neighbours}, and a node has at most {sizes[-1] - 1}")

    def check(run: Run) -> None:
        _check(run, weights)

    return Topology(
        build=lambda parts: _network(parts, inboxes, metropolis(inboxes) if weights == "metropolis" else None),
        check=check,
        inboxes=sizes,
        declared=lambda rows: min(bound, rows - 1),
        mixes=True,
        weighs=weights == "metropolis",
    )


def _check(run: Run, weights: str) -> None:
    """Raises ValueError for what a run cannot have without a server."""
    refused = [
        (run.workers.byzantine.count == run.workers.total, "what is measured are the honest nodes: leave one of them "
         "honest"),
        (run.weights != "equal", "weighs by the graph: leave weights out, or take topology.weights metropolis"),
        (run.regularisation.max_norm is not None, "has no server that bounds the model: leave "
         "regularisation.max_norm out"),
        (weights == "metropolis" and (run.rule.name != "average" or bool(run.pre)),
         "weights metropolis are for the rule average without pre: take weights equal, or that rule"),
    ]  # fmt: skip
    for wrong, words in refused:
        if wrong:
            raise PartError(f"gossip: {words}")
    check_in_step(run)


def closed_neighbourhoods(n: int, graph: str | Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """The neighbours of each node, and the node itself.

    Args:
        n: Number of nodes.
        graph: "ring", "complete", "torus", or pairs of node numbers.

    Returns:
        For each node the numbers of these, rising.

    Raises:
        OptionError: For a graph that does not fit n, or leaves nodes without a way to each other.

    Example:
        >>> [each.tolist() for each in closed_neighbourhoods(4, "ring")]
        [[0, 1, 3], [0, 1, 2], [1, 2, 3], [0, 2, 3]]
    """
    linked = np.eye(n, dtype=bool)
    for one, other in _edges(n, graph):
        linked[one, other] = linked[other, one] = True
    reached = linked[0]
    for _ in range(n):
        reached = linked[reached].any(axis=0)
    if not reached.all():
        raise OptionError("graph", f"has no way from node 0 to node {int(np.argmin(reached))}: join them by edges")
    return [np.flatnonzero(each) for each in linked]


def _edges(n: int, graph: str | Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    if not isinstance(graph, str):
        for one, other in graph:
            if max(one, other) >= n:
                raise OptionError("graph", f"names node {max(one, other)}, and the nodes are 0 to {n - 1}")
            if one == other:
                raise OptionError("graph", f"joins node {one} to itself, which every node is anyway: leave that out")
        return [*graph]
    if graph == "complete":
        return [(one, other) for one in range(n) for other in range(one)]
    if graph == "ring":
        return [(i, (i + 1) % n) for i in range(n)]
    rows = max(each for each in range(1, math.isqrt(n) + 1) if n % each == 0)
    if rows < 3:
        raise OptionError(
            "graph", f"torus needs n = rows x columns with 3 or more of each, as 9, 12, 15 or 16: got n={n}"
        )
    node = np.arange(n).reshape(rows, -1)
    return [
        (int(one), int(other))
        for axis in (0, 1)
        for one, other in zip(node.ravel(), np.roll(node, -1, axis).ravel(), strict=True)
    ]


def metropolis(inboxes: Sequence[np.ndarray]) -> np.ndarray:
    """The Metropolis weights of a graph.

    Args:
        inboxes: The neighbours of each node and the node itself, as `closed_neighbourhoods` gives them.

    Returns:
        `[n, n]`, symmetric, of which every row and column sums to 1: the weight of node j at node i.

    References:
        Xiao, Boyd and Kim 2007, "Distributed average consensus with least-mean-square deviation"
    """
    weights = np.zeros((len(inboxes), len(inboxes)))
    for i, inbox in enumerate(inboxes):
        for j in inbox:
            # an inbox is one larger than the number of neighbours
            weights[i, j] = 1 / max(len(inbox), len(inboxes[j]))
        weights[i, i] = 1 - weights[i].sum() + weights[i, i]
    return weights


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
    receivers = build_receivers(parts, inboxes, weights=weights, spared=np.flatnonzero(byzantine).tolist())

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
        worker._replace(carry_out=work, transform=None),
        NodeStep("mix", "worker", mix, "node", together="map"),
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
