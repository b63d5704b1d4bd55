"""Nodes that read rows of workers and apply the rule to them, each to those of its own inbox."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.compilation import compiled_once
from byzax.simulator.core import Core
from byzax.simulator.diagnostics import Decision, Diagnostics
from byzax.simulator.events import (
    EventResult,
    Network,
    NewStates,
    Node,
    NodeEvent,
    NodeStep,
    OfEvents,
    Sending,
    States,
)
from byzax.simulator.jobs import build_worker_step
from byzax.simulator.keys import Purpose, derive
from byzax.simulator.messages import stack_rows
from byzax.simulator.periodic import by_step, mean_measurements, periodic_network
from byzax.simulator.round_table import WORK, Message, RoundEvent
from byzax.simulator.senders import Arrivals
from byzax.simulator.server import Server, public_state
from byzax.simulator.topologies import NetworkParts
from byzax.simulator.world import World

FORGE = "forge"


class UpdateReceiver(Protocol):
    """Applies the rule at a receiver, and the step that follows."""

    def __call__(
        self, world: World, event: NodeEvent, server: Server, rows: Sequence[Any], /
    ) -> tuple[Server, Diagnostics, Decision]:
        """The receiver after an update.

        Args:
            world: Arrays of the run.
            event: The event, of which `node` is the receiver.
            server: Its state.
            rows: The rows that it reads, in the order of its inbox, in which they come first.

        Returns:
            The state after it, the diagnostics, and the decision with the aggregate.
        """
        ...


class EdgeWeights(NamedTuple):
    """The weights of workers at the receivers that mix their rows.

    Attributes:
        given: The weight of each worker at each receiver, `[receivers, n]` as tuples; None for Metropolis weights by
            the numbers of neighbours in a round, `World.degrees`.
        partial: Whether a receiver may read some of its inbox, and its own row has the weight of those that it misses.
    """

    given: tuple[tuple[float, ...], ...] | None
    partial: bool


class StartWorkers(Protocol):
    """Starts workers and attackers."""

    def __call__(self, world: World, d: int, /) -> NewStates:
        """The states of workers and attackers before the first update, of a model of `d` parameters."""
        ...


class Receivers(NamedTuple):
    """The receivers of rows of workers.

    Attributes:
        inboxes: The workers whose rows each receiver reads, by its number.
        work: The step by which a worker sends a row. It reads the public state of the server whose model it takes.
        forge: The step by which the rows of Byzantine workers are forged for a receiver; its node, of the kind
            "attacker", has the receiver's number.
        forgeries: Makes the events of that step, for all receivers that need one. Its argument gives, by the number of
            a receiver, the message with the public state that attackers take the receiver's for.
        rows: Gives the messages that a receiver reads in place of those of its inbox: forged ones of Byzantine workers.
        update: Applies the rule at a receiver, with keys of its own.
        start: Makes the states of workers and attackers.
    """

    inboxes: Sequence[np.ndarray]
    work: NodeStep
    forge: NodeStep
    forgeries: Callable[[Callable[[int], Message]], list[RoundEvent]]
    rows: Callable[[int], list[Message]]
    update: UpdateReceiver
    start: StartWorkers


def build_receivers(
    parts: NetworkParts,
    inboxes: Sequence[np.ndarray],
    *,
    quorum: int | None = None,
    peers: bool = False,
    weights: EdgeWeights | None = None,
    spared: Collection[int] = (),
    sent: str = WORK,
    sends: Sending | None = None,
) -> Receivers:
    """Builds the receivers of rows.

    Args:
        parts: The parts of the run.
        inboxes: The workers whose rows each receiver reads.
        quorum: The number of them whose rows it reads in an update, the first to arrive; None for all.
        peers: Whether receiver i is worker i, and its own row in its inbox.
        weights: The weights of workers at receivers, where these mix; else None.
        spared: Receivers that get the rows of Byzantine workers as these computed them.
        sent: The step by which rows are sent.
        sends: The rows as the wire changes them; None for rows to servers, and models between peers.

    Returns:
        The receivers, their steps and events.
    """
    core_of, here = parts.core_of, parts.world
    core, byzantine = core_of(quorum or len(inboxes[0])), np.asarray(here.byzantine_rank) >= 0
    forged = [
        core.forge is not None and bool(byzantine[inbox].any()) and receiver not in spared
        for receiver, inbox in enumerate(inboxes)
    ]
    sends = sends or Sending("peer" if peers else "up", models=peers)
    work, forge, update = _build_steps(core_of, core, peers, weights, sends)

    def messages_of(receiver: int) -> list[Message]:
        return [
            Message(FORGE, receiver, place) if forged[receiver] and byzantine[worker] else Message(sent, worker)
            for place, worker in enumerate(inboxes[receiver].tolist())
        ]

    def forgeries(public: Callable[[int], Message]) -> list[RoundEvent]:
        return [
            RoundEvent(FORGE, receiver, [*(Message(sent, worker) for worker in inbox.tolist()), public(receiver)])
            for receiver, inbox in enumerate(inboxes)
            if forged[receiver]
        ]

    def start(here: World, d: int) -> NewStates:
        memory = None if core.memory is None else core.memory.start(here, d)
        adversary = core.init_adversary(d)
        workers: NewStates = {("worker", i): memory for i in range(len(byzantine))}
        return workers | {("attacker", receiver): adversary for receiver in range(len(inboxes))}

    return Receivers(
        inboxes,
        work,
        forge,
        forgeries,
        messages_of,
        update,
        start,
    )


def _weights_of(weights: EdgeWeights, degrees: Any, receiver: Any, turn: Any, senders: Any) -> jax.Array:
    """The weights `[k]` of the senders of rows at a receiver."""
    if weights.given is None:
        mine = degrees[turn]
        found = 1 / (1 + jnp.maximum(mine[receiver], mine[senders])).astype(jnp.float32)
    else:
        found = jnp.asarray(weights.given, jnp.float32)[receiver][senders]
    if not weights.partial:
        return found
    own = senders == receiver
    return jnp.where(own, 1 - jnp.where(own, 0, found).sum(), found)


@compiled_once
def _build_steps(
    core_of: Callable[[int], Core], core: Core, peers: bool, weights: EdgeWeights | None, sends: Sending
) -> tuple[NodeStep, NodeStep, UpdateReceiver]:
    """The steps of workers and attackers, and the update of receivers.

    Args:
        core_of: The functions of the run, for inboxes of so many rows.
        core: Those of one inbox.
        peers: Whether receivers are workers, whose own rows are in their inboxes.
        weights: The weights of workers at each receiver; None where these do not mix.
        sends: The rows as the wire changes them.

    Returns:
        The same for runs that differ in nothing but their seed.
    """

    worker = build_worker_step(core.work, core.memory, core.batch, core.even)

    @jax.jit
    def of_node(key: Any, degrees: Any, receiver: Any, turn: Any, senders: Any) -> tuple[Any, Any, Any, Any]:
        own = senders == receiver if peers else None
        edges = None if weights is None else _weights_of(weights, degrees, receiver, turn, senders)
        return derive(key, Purpose.NODE, receiver), jnp.asarray(turn, jnp.int32), own, edges

    def of_receiver(here: World, event: NodeEvent, count: int) -> tuple[World, Any, Arrivals]:
        """The world of a receiver, its round, and the senders of the rows that it reads, the first of its inbox."""
        senders = event.senders[:count]
        key, turn, own, edges = of_node(here.key, here.degrees, event.node, event.turn, senders)
        arrived = Arrivals(senders, event.versions[:count], receiver=jnp.int32(event.node), own=own, weights=edges)
        return here._replace(key=key), turn, arrived

    def work(here: World, event: NodeEvent, memory: Any, messages: Sequence[Any]) -> EventResult:
        made = worker.run(here, event, memory, messages)
        return made._replace(arrays={"rows": made.message[None]})

    def forge(here: World, event: NodeEvent, state: Any, messages: Sequence[Any]) -> EventResult:
        rows, public = messages[:-1], messages[-1]
        if peers and len(rows) == 1:
            # a node that reads its own alone
            return EventResult(state, stack_rows(rows))
        of_inbox = core_of(len(rows)).forge
        assert of_inbox is not None
        mine, _, arrived = of_receiver(here, event, len(rows))
        sent, state = of_inbox(mine, event.turn, arrived, stack_rows(rows), public, state)
        return EventResult(state, sent)

    def update(
        here: World, event: NodeEvent, server: Server, rows: Sequence[Any]
    ) -> tuple[Server, Diagnostics, Decision]:
        mine, turn, arrived = of_receiver(here, event, len(rows))
        # a receiver that missed rounds counts on
        return core_of(len(rows)).update(mine, server._replace(step=turn), arrived, stack_rows(rows))

    return (
        worker._replace(carry_out=work, transform=None),
        NodeStep(
            FORGE, "attacker", forge, "receiver", together="map", forges=True,
            sends=sends if core.forge else None,
        ),
        update,
    )  # fmt: skip


def nodes_arrays(events: Sequence[tuple[Any, Any]], nodes: int) -> np.ndarray:
    """The arrays of the nodes that had an event in an update.

    Args:
        events: A node and its array `[d]`, of one event at least.
        nodes: Number of nodes.

    Returns:
        `[nodes, d]`, NaN for the others.
    """
    found = np.full((nodes, *np.shape(events[0][1])), np.nan, np.float32)
    for node, array in events:
        found[int(node)] = array
    return found


def received_rows(events: Sequence[tuple[Any, Any, Any]], receivers: int, n: int, d: int) -> np.ndarray:
    """The rows that receivers read in an update.

    Args:
        events: A receiver, the senders `[k]` and the rows `[k, d]` of each event.
        receivers: Number of receivers.
        n: Number of workers.
        d: Length of a row.

    Returns:
        `[receivers, n, d]`, NaN for what they did not read.
    """
    found = np.full((receivers, n, d), np.nan, np.float32)
    for receiver, senders, rows in events:
        found[int(receiver), np.asarray(senders)] = rows
    return found


def update_by_aggregates(
    core: Core, here: World, event: NodeEvent, server: Server, messages: Sequence[Any]
) -> tuple[Server, Diagnostics, Decision]:
    """Applies the rule at a server to aggregates of other servers, and the step of the optimizer.

    Args:
        core: The functions of the run for so many rows.
        here: Arrays of the run.
        event: The event.
        server: The state of the server.
        messages: The aggregates, `[d]` each.

    Returns:
        The state after it, diagnostics, and the decision. No row is a worker's: weights are 0, and what is measured
        against honest rows has no meaning.
    """
    k = len(messages)
    return core.update(here, server, Arrivals(jnp.full(k, -1), jnp.full(k, event.turn)), stack_rows(messages))


def one_model(
    parts: NetworkParts,
    receivers: Receivers,
    steps: Sequence[NodeStep],
    events: Sequence[RoundEvent],
    start: Callable[[World], NewStates],
    server: Node = ("server", 0),
) -> Network:
    """A network of receivers and servers, of which one has the model that is evaluated and kept.

    Diagnostics and weights of an update are means over the events that measure any (`EventResult.seen`). The arrays of
    an event are fields of `Update` by their names: `forged`, the rows `[k, d]` that a receiver read, and `aggregate`.

    Args:
        parts: The parts of the run.
        receivers: The receivers, each worker being in one inbox.
        steps: The steps.
        events: The events of one update, in an order in which they can be carried out.
        start: Makes the states before the first update.
        server: The node with the model, whose state is a `Server`.

    Returns:
        The network.

    Raises:
        ValueError: For a worker in no inbox or in several, and as `round_table`.
    """
    byzantine = np.asarray(parts.world.byzantine_rank) >= 0
    workers = np.concatenate(receivers.inboxes)
    order = np.argsort(workers)
    if not np.array_equal(workers[order], np.arange(len(byzantine))):
        raise ValueError(f"each of {len(byzantine)} workers must be in one inbox: got {workers.tolist()}")
    evaluate = parts.core_of(len(receivers.inboxes[0])).evaluate

    def put_together(step: int, arrays: OfEvents, states: States) -> dict[str, Any]:
        made = by_step([pair for _, found in arrays for pair in (found or {}).items()])
        return {
            "workers": np.arange(len(byzantine)),
            "rows": jnp.concatenate(made["rows"]),
            "byzantine": byzantine,
            "forged": jnp.concatenate(made["forged"])[order],
            "aggregate": made["aggregate"][-1],
            "params": states[server].params,
        }

    return periodic_network(
        steps,
        events,
        parts.timeline,
        start=start,
        show=public_state,
        measure=_measure,
        arrays=put_together,
        evaluate=lambda here, states: evaluate(here, states[server].params),
        params=lambda states: states[server].params,
        judged=(server[0],),
    )


def _measure(seen: OfEvents, happened: Any = None) -> tuple[Diagnostics, Any]:
    return mean_measurements([found for _, found in seen if found is not None])
