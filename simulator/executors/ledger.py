"""The ledger of a run: the messages that its nodes send each other, with their bits."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from byzax.simulator.config.run import Run
from byzax.simulator.diagnostics import Traffic
from byzax.simulator.durations import WAYS, MessageBits, Way
from byzax.simulator.events import Network, Node, inbox_of
from byzax.simulator.executors.base import network_of, prepare
from byzax.simulator.parts import topology
from byzax.simulator.timeline import ROWS_AT_ONCE, Rows, Timeline
from byzax.simulator.wire import wire_bits


class LinkTotal(NamedTuple):
    """The messages from one node to another.

    Attributes:
        sender: The node that sent them.
        receiver: The node that they were sent to.
        way: The direction.
        messages: Their number.
        bits: Their bits.
    """

    sender: Node
    receiver: Node
    way: Way
    messages: int
    bits: float


class SentMessages(NamedTuple):
    """Messages of one kind.

    Attributes:
        way: Their direction.
        kinds: The kind of their senders, and of their receivers.
        pairs: `[L, 2]`, sender and receiver of each link.
        bits: Bits of one of them.
        blocks: Some of the messages at a time: the link of each, as its place in `pairs`, and the version of the model
            before which it was sent; 0 for one that was not sent.
    """

    way: Way
    kinds: tuple[str, str]
    pairs: np.ndarray
    bits: float
    blocks: Iterator[tuple[np.ndarray, np.ndarray]]


class Links(NamedTuple):
    """The links between nodes of two kinds.

    Attributes:
        way: Their direction.
        kinds: The kind of their senders, and of their receivers.
        pairs: `[L, 2]`, sender and receiver of each, rising.
    """

    way: Way
    kinds: tuple[str, str]
    pairs: np.ndarray


def links(run: Run, timeline: Timeline) -> list[Links]:
    """The links of a run, also those over which nothing is sent.

    Args:
        run: The run.
        timeline: Its timeline, of one update at least.

    Returns:
        The links.
    """
    found: dict[tuple[Way, tuple[str, str]], list[np.ndarray]] = {}
    for sent in _sent(run, timeline):
        found.setdefault((sent.way, sent.kinds), []).append(sent.pairs)
    return [Links(way, kinds, np.unique(np.concatenate(pairs), axis=0)) for (way, kinds), pairs in found.items()]


def traffic(run: Run, timeline: Timeline) -> Traffic:
    """The messages of a run, summed up until each version of the model.

    A message counts once it is sent, also where it is lost or used by nobody. What a node sends to itself is none.

    Args:
        run: The run.
        timeline: Its timeline.

    Returns:
        The sums, `[T + 1]` each.
    """
    messages, bits = np.zeros(timeline.steps + 1), dict.fromkeys(WAYS, np.zeros(timeline.steps + 1))
    for sent in _sent(run, timeline):
        counts = np.zeros(timeline.steps + 1)
        for _, versions in sent.blocks:
            mine = versions[versions <= timeline.steps]
            # of a long run a block has a few versions
            first = mine.min(initial=timeline.steps)
            some = np.bincount(mine - first)
            counts[first : first + len(some)] += some
        counts[0] = 0
        messages += counts
        bits[sent.way] = bits[sent.way] + counts * sent.bits
    return Traffic(*map(np.cumsum, (messages, *(bits[way] for way in WAYS))))


def receivers(run: Run, timeline: Timeline, way: Way, nodes: int) -> np.ndarray:
    """The number of nodes that get a message of each node in a direction.

    Args:
        run: The run.
        timeline: Its timeline.
        way: The direction.
        nodes: Number of nodes that send, or to which the only server sends.

    Returns:
        `[nodes]`.
    """
    described = topology(run).rounds
    if described is not None and described(run).pairs:
        # each message goes to one node
        return np.ones(nodes, int)
    pairs = [each.pairs for each in links(run, timeline) if each.way == way]
    column = 1 if way == "down" and topology(run).one_server else 0
    return np.bincount(np.concatenate(pairs)[:, column], minlength=nodes)[:nodes]


def with_measured(sent: Traffic, way: Way, size: float, counts: np.ndarray, receivers: np.ndarray) -> Traffic:
    """Traffic with the measured sizes of the messages of a direction in place of the typical one.

    Messages that were sent and not measured, of jobs whose rows nobody used, count as the mean of the others.

    Args:
        sent: The messages so far, numbers.
        way: The direction.
        size: The bits of a message in it.
        counts: `[nodes, 2]`, the bits and the number of the messages of each node.
        receivers: `[nodes]`, the number of nodes that get them.

    Returns:
        The traffic.
    """
    bits, measured = receivers @ counts
    messages = round(getattr(sent, f"bits_{way}") / size)
    return sent._replace(**{f"bits_{way}": float(round(bits * (messages / measured))) if measured else 0.0})


def with_pulls(sent: Traffic, size: float, pulls: np.ndarray) -> Traffic:
    """Traffic with the models that workers asked for, each with a message that asks, of no bits.

    Args:
        sent: The messages so far without them, numbers.
        size: The bits of a model.
        pulls: `[servers, n]`, their number.

    Returns:
        The traffic.
    """
    count = float(pulls.sum())
    return sent._replace(messages=sent.messages + 2 * count, bits_down=sent.bits_down + count * size)


def link_totals(run: Run, timeline: Timeline) -> list[LinkTotal]:
    """The messages of a run by links.

    Args:
        run: The run.
        timeline: Its timeline; of a run that ended early that of the updates that were carried out.

    Returns:
        The links over which some were sent before the last version, in the order of directions, senders and receivers.
    """
    found: dict[tuple[Way, Node, Node], tuple[int, float]] = {}
    for sent in _sent(run, timeline):
        counts = np.zeros(len(sent.pairs), int)
        for links, versions in sent.blocks:
            counts += np.bincount(links[(versions > 0) & (versions <= timeline.steps)], minlength=len(counts))
        for (sender, receiver), more in zip(sent.pairs.tolist(), counts.tolist(), strict=True):
            link = sent.way, (sent.kinds[0], sender), (sent.kinds[1], receiver)
            count, bits = found.get(link, (0, 0.0))
            found[link] = count + more, bits + more * sent.bits
    order = sorted(found, key=lambda link: (WAYS.index(link[0]), *link[1:]))
    return [LinkTotal(link[1], link[2], link[0], *found[link]) for link in order if found[link][0]]


def _sent(run: Run, timeline: Timeline) -> Iterator[SentMessages]:
    structure, bits = topology(run), wire_bits(run)
    if structure.rounds is not None:
        yield from _in_rounds(run, timeline, bits)
    elif structure.one_server:
        yield from _with_server(run, timeline, bits)
    else:
        network, _ = network_of(run, prepare(run, timeline))
        yield from _in_updates(network, timeline, bits)


def _with_server(run: Run, timeline: Timeline, bits: MessageBits) -> Iterator[SentMessages]:
    """A model to a worker for each job, and the row of each that was computed."""
    pairs = np.stack([np.zeros(run.workers.total, int), np.arange(run.workers.total)], axis=1)

    def models() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for part, mine in _blocks(timeline):
            yield part.workers[mine], part.handed[mine] + 1

    def rows() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for part, mine in _blocks(timeline):
            computed_s = np.where(np.isnan(part.computed_s[mine]), np.inf, part.computed_s[mine])
            # where no time passes a row is sent after its model all the same
            version = np.maximum(np.searchsorted(timeline.time_s, computed_s), part.handed[mine]) + 1
            yield part.workers[mine], version

    yield SentMessages("down", ("server", "worker"), pairs, bits.down, models())
    yield SentMessages("up", ("worker", "server"), pairs[:, ::-1], bits.up, rows())


def _blocks(timeline: Timeline) -> Iterator[tuple[Rows, slice]]:
    """All jobs, some at a time."""
    for part in (timeline.rows, timeline.unused):
        for begin in range(0, len(part.workers), ROWS_AT_ONCE):
            yield part, slice(begin, begin + ROWS_AT_ONCE)


def _every_update(links: int, there: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One message of each link in each update, where it is `there`, `[T, L]`."""
    at_once = max(1, ROWS_AT_ONCE // max(links, 1))
    for begin in range(0, len(there), at_once):
        mine = there[begin : begin + at_once]
        versions = np.where(mine, begin + 1 + np.arange(len(mine))[:, None], 0)
        yield np.broadcast_to(np.arange(links), mine.shape).ravel(), versions.ravel()


def _in_rounds(run: Run, timeline: Timeline, bits: MessageBits) -> Iterator[SentMessages]:
    """The messages of each step to all nodes that may read them."""
    described = topology(run).rounds
    assert described is not None
    rounds = described(run)
    kinds = {step.name: step.kind for step in rounds.steps}
    end_s = {times.step: times.end_s for times in timeline.rounds}
    for step in rounds.steps:
        if not step.reads:
            continue
        pairs = np.array(
            [
                (sender, receiver)
                for receiver, senders in enumerate(step.senders)
                for sender in senders
                if sender != receiver or kinds[step.reads] != step.kind
            ],
            int,
        ).reshape(-1, 2)
        due = (np.arange(1, timeline.steps + 1) % step.every == 0)[:, None]
        there = (np.isfinite(end_s[step.reads]) & due)[:, pairs[:, 0]]
        if rounds.pairs:
            places = [step.senders[receiver].index(sender) for sender, receiver in pairs.tolist()]
            (taken,) = (times.taken for times in timeline.rounds if times.step == step.name)
            there = there & taken[:, pairs[:, 1], places]
        if step.joined is not None:
            places = [step.senders[receiver].index(sender) for sender, receiver in pairs.tolist()]
            for t in range(timeline.steps):
                there[t] &= step.joined(run.seed, t)[pairs[:, 1], places]
        way = rounds.way(step)
        sizes = np.array([step.bits_of(one, other, getattr(bits, way)) for one, other in pairs.tolist()])
        for size in np.unique(sizes).tolist():
            mine = np.flatnonzero(sizes == size)
            messages = _every_update(len(mine), there[:, mine])
            yield SentMessages(way, (kinds[step.reads], step.kind), pairs[mine], size, messages)


def _in_updates(network: Network, timeline: Timeline, bits: MessageBits) -> Iterator[SentMessages]:
    """The messages that events of an update read, where all updates are made of the same events.

    Those of a step that sends every so many turns alone (`Sending.every`) are messages of these updates.
    """
    block, steps = network.table.events(0, 1), network.steps
    made = [steps[step] for step in block.step.tolist()]
    nodes = {
        block.begin + e: (step.kind, node) for e, (step, node) in enumerate(zip(made, block.node.tolist(), strict=True))
    }
    nodes |= {number: node for number, (node, _) in network.table.kept(0).items()}
    # by the kinds of their ends and the turns from one message to the next
    links: dict[tuple[str, str, int], set[tuple[int, int, int]]] = {}
    for e, step in enumerate(made):
        if step.forges:
            continue
        receiver = step.kind, int(block.node[e])
        for source, port in inbox_of(block, e):
            number, sends = source, made[source - block.begin].sends if source >= block.begin else None
            if port >= 0:
                # what is forged is sent by the node whose message it takes the place of
                number, _ = inbox_of(block, source - block.begin)[port]
            origin, every = nodes[number], sends.every if sends else 1
            if origin != receiver:
                link = origin[1], receiver[1], source if port < 0 else -1
                links.setdefault((origin[0], receiver[0], every), set()).add(link)
    for (one, other, every), found in links.items():
        pairs = np.array(sorted(found))[:, :2]
        way: Way = "up" if one == "worker" != other else "down" if other == "worker" != one else "peer"
        due = (np.arange(1, timeline.steps + 1) % every == 0)[:, None]
        there = np.broadcast_to(due, (timeline.steps, len(pairs)))
        yield SentMessages(way, (one, other), pairs, getattr(bits, way), _every_update(len(pairs), there))
