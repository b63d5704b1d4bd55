"""The ledger of a run: the messages that its nodes send each other, with their bits."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from byzax.simulator.config.run import Run
from byzax.simulator.diagnostics import Traffic
from byzax.simulator.durations import WAYS, Way
from byzax.simulator.events import Network, Node, inbox_of
from byzax.simulator.executors.base import network_of, prepare
from byzax.simulator.parts import message_bits, topology
from byzax.simulator.timeline import ROWS_AT_ONCE, Timeline


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
        at_s: The seconds at which messages were sent over each link, `[k]` for each of the L; not finite for those that
            were not.
    """

    way: Way
    kinds: tuple[str, str]
    pairs: np.ndarray
    bits: float
    at_s: list[np.ndarray]


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
        for at_s in sent.at_s:
            for begin in range(0, len(at_s), ROWS_AT_ONCE):
                part = at_s[begin : begin + ROWS_AT_ONCE]
                # at the first version that is made no earlier
                version = np.searchsorted(timeline.time_s, part[np.isfinite(part)]) + 1
                counts += np.bincount(version, minlength=timeline.steps + 2)[:-1]
        messages += counts
        bits[sent.way] = bits[sent.way] + counts * sent.bits
    return Traffic(*map(np.cumsum, (messages, *(bits[way] for way in WAYS))))


def link_totals(run: Run, timeline: Timeline) -> list[LinkTotal]:
    """The messages of a run by links.

    Args:
        run: The run.
        timeline: Its timeline; of a run that ended early that of the updates that were carried out.

    Returns:
        The links over which some were sent until the last update, in the order of directions, senders and receivers.
    """
    end = timeline.time_s[-1] if timeline.steps else 0.0
    found: dict[tuple[Way, Node, Node], tuple[int, float]] = {}
    for sent in _sent(run, timeline):
        for (sender, receiver), at_s in zip(sent.pairs.tolist(), sent.at_s, strict=True):
            link = sent.way, (sent.kinds[0], sender), (sent.kinds[1], receiver)
            count, bits = found.get(link, (0, 0.0))
            more = int((at_s <= end).sum())
            found[link] = count + more, bits + more * sent.bits
    order = sorted(found, key=lambda link: (WAYS.index(link[0]), *link[1:]))
    return [LinkTotal(link[1], link[2], link[0], *found[link]) for link in order if found[link][0]]


def _sent(run: Run, timeline: Timeline) -> Iterator[SentMessages]:
    structure, bits = topology(run), message_bits(run)
    if structure.rounds is not None:
        yield from _in_rounds(run, timeline, bits)
    elif structure.one_server:
        yield from _with_server(run, timeline, bits)
    else:
        network, _ = network_of(run, prepare(run, timeline))
        yield from _in_updates(network, timeline, bits)


def _with_server(run: Run, timeline: Timeline, bits: int) -> Iterator[SentMessages]:
    """A model to a worker for each job, and the row of each that was computed."""
    rows, unused, n = timeline.rows, timeline.unused, run.workers.total
    workers = np.concatenate([rows.workers, unused.workers])
    mine = np.argsort(workers, kind="stable")
    ends = np.searchsorted(workers[mine], np.arange(1, n))
    pairs = np.stack([np.zeros(n, int), np.arange(n)], axis=1)
    started_s, computed_s = (
        np.split(np.concatenate([getattr(rows, name), getattr(unused, name)])[mine], ends)
        for name in ("started_s", "computed_s")
    )
    yield SentMessages("down", ("server", "worker"), pairs, bits, started_s)
    yield SentMessages("up", ("worker", "server"), pairs[:, ::-1], bits, computed_s)


def _in_rounds(run: Run, timeline: Timeline, bits: int) -> Iterator[SentMessages]:
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
            ]
        )
        at_s = end_s[step.reads][step.every - 1 :: step.every, pairs[:, 0]].T
        yield SentMessages(rounds.way(step), (kinds[step.reads], step.kind), pairs, bits * step.size, [*at_s])


def _in_updates(network: Network, timeline: Timeline, bits: int) -> Iterator[SentMessages]:
    """The messages that events of an update read, where all updates are made of the same events, at its second."""
    block = network.table.events(0, 1)
    kinds = [network.steps[step].kind for step in block.step.tolist()]
    nodes = dict(enumerate(zip(kinds, block.node.tolist(), strict=True), block.begin))
    nodes |= {number: node for number, (node, _) in network.table.kept(0).items()}
    links: dict[tuple[str, str], set[tuple[int, int, int]]] = {}
    for e, receiver in enumerate(zip(kinds, block.node.tolist(), strict=True)):
        if network.steps[block.step[e]].forges:
            continue
        senders = block.sender[block.first[e] : block.first[e + 1]].tolist()
        for (source, port), sender in zip(inbox_of(block, e), senders, strict=True):
            # a forged row is sent by its worker
            origin, message = (nodes[source], source) if port < 0 else (("worker", sender), -1)
            if origin != receiver:
                links.setdefault((origin[0], receiver[0]), set()).add((origin[1], receiver[1], message))
    for (one, other), found in links.items():
        pairs = np.array(sorted(found))[:, :2]
        way: Way = "up" if one == "worker" != other else "down" if other == "worker" != one else "peer"
        yield SentMessages(way, (one, other), pairs, bits, [timeline.time_s] * len(pairs))
