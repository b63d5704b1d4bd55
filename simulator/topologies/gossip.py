"""Gossip: every node trains a model of its own, and takes the rule over the models of its neighbours."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field, Strict

from byzax.options import OptionError, PartError, checked
from byzax.simulator.byzantine_timing import timing
from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.run import Run
from byzax.simulator.diagnostics import Diagnostics, Evaluate, Evaluation
from byzax.simulator.events import (
    EventBlock,
    EventResult,
    EventTable,
    Network,
    NodeEvent,
    NodeStep,
    OfEvents,
    States,
    stack_rows,
)
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.schedules.base import check_workers
from byzax.simulator.serving import Arrivals, Server, public_state
from byzax.simulator.topologies.base import NetworkParts, Topology
from byzax.simulator.world import World

Edge = Annotated[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], Strict(False)]
Graph = Literal["ring", "complete", "torus"] | tuple[Edge, ...]

WORK, FORGE, MIX = range(3)


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
    n, byzantine = run.workers.total, run.workers.byzantine.count
    everyone = ("all", n, *(["n-f"] if not run.workers.declared else []))
    refused = [
        (byzantine == n, "what is measured are the honest nodes: leave one of them honest"),
        (run.schedule.name != "synchronous" or run.schedule.options().get("quorum") not in everyone,
         "all nodes wait for all others: take schedule synchronous with quorum all"),
        (run.clock == "wall", "has virtual time alone: take clock virtual"),
        (bool(run.latency.loss or run.latency.crashes), "nothing is lost and no node dies: leave latency.loss and "
         "latency.crashes out"),
        (not timing(run).in_time, "Byzantine nodes send in time: take attack.timing honest"),
        (run.workers.byzantine.per_round != "fixed", "the Byzantine nodes stay the same: leave "
         "workers.byzantine.per_round out"),
        (run.filter is not None, "has no server that judges single rows: leave filter out"),
        (run.weights != "equal", "weighs by the graph: leave weights out, or take topology.weights metropolis"),
        (run.local is not None and run.local.control_variates, "has no server for common control variates: leave "
         "local.control_variates out"),
        (run.regularisation.max_norm is not None, "has no server that bounds the model: leave "
         "regularisation.max_norm out"),
        (weights == "metropolis" and (run.rule.name != "average" or bool(run.pre)),
         "weights metropolis are for the rule average without pre: take weights equal, or that rule"),
    ]  # fmt: skip
    for wrong, words in refused:
        if wrong:
            raise PartError(f"gossip: {words}")


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
    core_of, timeline, here = parts.core_of, parts.timeline, parts.world
    n, byzantine = len(inboxes), np.asarray(here.byzantine_rank) >= 0
    honest = np.flatnonzero(~byzantine)
    core = core_of(len(inboxes[0]))
    # a node forges nothing for itself, nor for those of its kind
    attacked = [i for i in honest.tolist() if core.forge is not None and byzantine[inboxes[i]].any()]
    by_size = {size: np.zeros((n, size), np.int32) for size in {len(each) for each in inboxes}}
    for i, inbox in enumerate(inboxes):
        by_size[len(inbox)][i] = inbox

    def world_of(here: World, node: Any) -> World:
        """The world of a node, which draws with keys of its own and weighs what it receives."""
        mine = {} if weights is None else {"sizes": jnp.asarray(weights, jnp.float32)[node]}
        return here._replace(key=derive(here.key, Purpose.NODE, node), **mine)

    # made once, where events are carried out one after the other
    worlds = [world_of(here, i) for i in range(n)]

    def of_node(here: World, event: NodeEvent, size: int) -> tuple[World, Arrivals]:
        """The world of a node, and the senders of what it received."""
        mine = worlds[event.node] if isinstance(event.node, int) else world_of(here, event.node)
        return mine, Arrivals(
            jnp.asarray(by_size[size])[event.node],
            jnp.full(size, event.turn, jnp.int32),
            receiver=jnp.int32(event.node),
        )

    def work(here: World, event: NodeEvent, peer: Peer, messages: list[Any]) -> EventResult:
        server, memory = peer
        worker, turn = jnp.int32(event.node), jnp.int32(event.turn)
        row = core.work(here, server.params, worker, turn, turn)
        if core.memory is not None:
            memory, row = core.memory.remember(here, memory, row, worker, turn)
        half, optimizer = core.move(server.params, server.optimizer, row)
        return EventResult(Peer(server._replace(optimizer=optimizer), memory), half, arrays=half)

    def forge(here: World, event: NodeEvent, state: Any, messages: list[Any]) -> EventResult:
        *models, public = messages
        of_inbox = core_of(len(models)).forge
        assert of_inbox is not None
        mine, arrived = of_node(here, event, len(models))
        forged, state = of_inbox(mine, event.turn, arrived, stack_rows(models), public, state)
        return EventResult(state, forged)

    def mix(here: World, event: NodeEvent, peer: Peer, messages: list[Any]) -> EventResult:
        received, update = stack_rows(messages), core_of(len(messages)).update
        mine, arrived = of_node(here, event, len(messages))
        server, diagnostics, decision = update(mine, peer.server, arrived, received)
        seen, arrays = (diagnostics, decision.weights), (decision.aggregate, received)
        return EventResult(peer._replace(server=server), public_state(server), seen, arrays)

    def start(here: World) -> States:
        begun = {size: core_of(size).start(here) for size in {len(each) for each in inboxes}}
        d = len(begun[len(inboxes[0])].params)
        memory = None if core.memory is None else core.memory.start(here, d)
        adversary = core.init_adversary(d)
        peers = {("worker", i): Peer(begun[len(inbox)], memory) for i, inbox in enumerate(inboxes)}
        return peers | {("attacker", i): adversary for i in range(n)}

    def measure(seen: OfEvents) -> tuple[Diagnostics, Any]:
        mixed = [found for name, found in seen if name == "mix"]
        return _mean_over(*zip(*(mixed[i] for i in honest), strict=True))

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        halves = jnp.stack([found for name, found in arrays if name == "work"])
        aggregates, rows = zip(*(found for name, found in arrays if name == "mix"), strict=True)
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

    return Network(
        steps=(
            NodeStep("work", "worker", work, "worker", "job", together="batch" if core.batch else "map"),
            NodeStep("forge", "attacker", forge, "receiver", together="map"),
            NodeStep("mix", "worker", mix, "node", together="map"),
        ),
        forging=(FORGE,),
        nodes={"worker": n, "attacker": n},
        table=table_of(inboxes, attacked, byzantine, timeline.time_s, *(
            each.reshape(-1, n) for each in (timeline.rows.started_s, timeline.rows.computed_s, timeline.rows.arrived_s)
        )),
        start=start,
        show=lambda peer: public_state(peer.server),
        measure=measure,
        arrays=put_together,
        evaluate=lambda here, states: build_evaluate_peers(core.evaluate)(here, _models(states, honest)),
        params=lambda states: _models(states, honest).mean(axis=0),
    )  # fmt: skip


def _models(states: States, nodes: np.ndarray) -> jax.Array:
    return jnp.stack([states["worker", i].server.params for i in nodes.tolist()])


@jax.jit
def _mean_over(diagnostics: tuple[Diagnostics, ...], weights: tuple[jax.Array, ...]) -> tuple[Diagnostics, jax.Array]:
    """The means over honest nodes."""
    return jax.tree.map(lambda *each: jnp.stack(each).mean(axis=0), *diagnostics), jnp.stack(weights).mean(axis=0)


@compiled_once
def build_evaluate_peers(evaluate: Evaluate) -> Callable[[World, jax.Array], Evaluation]:
    """Builds the evaluation of several models.

    Args:
        evaluate: Evaluates one.

    Returns:
        The function that evaluates models `[h, d]`: means over them, with the worst accuracy and the consensus
        distance.
    """

    @jax.jit
    def evaluate_peers(here: World, models: jax.Array) -> Evaluation:
        each = jax.lax.map(lambda params: evaluate(here, params), models)
        distances = jnp.square(models - models.mean(axis=0)).sum(axis=1)
        return Evaluation(*(value.mean() for value in each))._replace(
            worst_accuracy=each.test_accuracy.min(), consensus_distance=jnp.sqrt(distances.mean())
        )

    return evaluate_peers


def table_of(
    inboxes: Sequence[np.ndarray],
    attacked: Sequence[int],
    byzantine: np.ndarray,
    time_s: np.ndarray,
    started_s: np.ndarray,
    computed_s: np.ndarray,
    arrived_s: np.ndarray,
) -> EventTable:
    """The table of rounds: all nodes work, messages to the attacked ones are forged, all nodes mix.

    Args:
        inboxes: The nodes whose models each node reads.
        attacked: The nodes that get forged messages.
        byzantine: `[n]`, the nodes whose messages are forged.
        time_s: `[T]`, the second at which each round ends.
        started_s: `[T, n]`, the second at which each node begins.
        computed_s: `[T, n]`, the second at which it sends its model.
        arrived_s: `[T, n]`, the second at which that is there.

    Returns:
        The table.
    """
    n, a = len(inboxes), len(attacked)
    per_round = 2 * n + a
    place = {node: i for i, node in enumerate(attacked)}
    step = np.repeat([WORK, FORGE, MIX], [n, a, n])
    node = np.concatenate([np.arange(n), np.array(attacked, int), np.arange(n)])
    # sources within a round: n + i is the mixing of node i in the round before
    reads: list[np.ndarray] = [np.empty(0, int)] * n
    ports: list[np.ndarray] = [np.empty(0, int)] * n
    for i in attacked:
        reads.append(np.append(inboxes[i], -n + i))
        ports.append(np.full(len(inboxes[i]) + 1, -1))
    for i, inbox in enumerate(inboxes):
        ours = byzantine[inbox] if i in place else np.zeros(len(inbox), bool)
        reads.append(np.where(ours, n + place.get(i, 0), inbox))
        ports.append(np.where(ours, np.arange(len(inbox)), -1))
    sizes = np.array([len(each) for each in reads])
    source, port = np.concatenate(reads), np.concatenate(ports)
    # the last event of a round that reads a message, by the place of its sender; a mixing is read in the next round
    last = np.arange(per_round)
    reader = np.repeat(np.arange(per_round), sizes)
    sent = source >= 0
    np.maximum.at(last, source[sent], reader[sent])
    for i in attacked:
        last[n + a + i] = per_round + n + place[i]

    def events(since: int, until: int) -> EventBlock:
        rounds = np.arange(since, until)
        begins = 1 + rounds * per_round
        of_work = np.tile(step == WORK, len(rounds))
        begin_s, end_s, arrive_s = (np.repeat(time_s[since:until], per_round) for _ in range(3))
        for times, own in ((begin_s, started_s), (end_s, computed_s), (arrive_s, arrived_s)):
            times[of_work] = own[since:until].ravel()
        row = np.full(len(of_work), -1)
        row[of_work] = (rounds[:, None] * n + np.arange(n)).ravel()
        return EventBlock(
            begin=int(begins[0]),
            step=np.tile(step, len(rounds)),
            node=np.tile(node, len(rounds)),
            turn=np.repeat(rounds, per_round),
            row=row,
            begin_s=begin_s,
            end_s=end_s,
            arrive_s=arrive_s,
            last=(begins[:, None] + last).ravel(),
            first=np.concatenate([[0], np.cumsum(np.tile(sizes, len(rounds)))]),
            source=(begins[:, None] + source).ravel(),
            port=np.tile(port, len(rounds)),
            bounds=np.arange(len(rounds) + 1) * per_round,
        )

    def mixed(node: int, rounds: int) -> int:
        """The number of the event by which a node mixes in the last of so many rounds."""
        return 1 + rounds * per_round - n + node

    return EventTable(
        events=events,
        kept=lambda rounds: {
            mixed(i, rounds): (("worker", i), 1 + rounds * per_round + n + place[i]) for i in attacked
        },
        number_of=lambda place: (1 + place // n * per_round + place % n, 1 + (place // n + 1) * per_round),
    )
