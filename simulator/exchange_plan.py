"""Rounds of exchanges in virtual time: each node sends one message and receives one at a time."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from byzax.simulator import interrupts
from byzax.simulator.config.latency import LatencyPart
from byzax.simulator.durations import BLOCK, DrawMessages, MessageBits, build_draws, build_links
from byzax.simulator.rounds import Rounds, RoundStep
from byzax.simulator.timeline import RoundTimes, Timeline, timeline


class Meeting(NamedTuple):
    """The messages of an exchange.

    Attributes:
        senders: `[k]`, the nodes that send.
        receivers: `[k]`, the nodes that they send to.
        places: `[k]`, the place of each sender among all nodes that ever send to its receiver.
        uses: `[k]`, how many messages the link had before in the same round.
        seconds: `[k]`, the time that each message takes by its bits.
    """

    senders: np.ndarray
    receivers: np.ndarray
    places: np.ndarray
    uses: np.ndarray
    seconds: np.ndarray


def plan_exchanges(rounds: Rounds, steps: int, source: LatencyPart, seed: int, bits: MessageBits) -> Timeline:
    """The timeline of a run in rounds of exchanges.

    The exchanges of a round begin once all nodes have done their jobs. In each of them a node sends one message at
    most, and receives one at most. A message is under way from the second at which both its nodes are done with the
    exchanges before, for the delay of its link and bits / bandwidth (`latency.peer`); so long both are busy with it,
    but each with two messages, the one that it sends and the one that it receives.

    Args:
        rounds: The steps of a round.
        steps: Number of rounds.
        source: The latency in a scenario.
        seed: Seed of the run.
        bits: Bits of a message of each direction, of a whole model.

    Returns:
        The timeline, in which every update has a row of every worker, and whose `rounds` say what each node did when.

    Raises:
        ScenarioError: As `build_draws`.
    """
    n = len(rounds.steps[0].senders)
    draws = build_draws(source, n, seed, bits)
    links, uses, meetings = _meetings(rounds, source, seed, bits)
    ends = {step.name: np.empty((steps, n)) for step in rounds.steps}
    begun_s, together_s = np.empty((steps, n)), np.empty(steps)
    free = np.zeros(n)
    for first in range(0, steps, BLOCK):
        interrupts.check()
        count = min(BLOCK, steps - first)
        computing = np.stack([draw(first, BLOCK).compute for draw in draws], axis=1)
        delays = None if links is None else links(first * uses, BLOCK * uses)[0]
        # seconds since all have done their jobs, of all rounds of the block at once
        since, ready = {}, np.zeros((count, n))
        for step in rounds.steps:
            if delays is not None and step.name in meetings:
                mine = meetings[step.name]
                taking = delays.reshape(BLOCK, uses, *delays.shape[1:])[:count, mine.uses, mine.receivers, mine.places]
                done = np.maximum(ready[:, mine.senders], ready[:, mine.receivers]) + taking + mine.seconds
                ready = ready.copy()
                for nodes in (mine.senders, mine.receivers):
                    ready[:, nodes] = np.maximum(ready[:, nodes], done)
            since[step.name] = ready
        for i, t in enumerate(range(first, first + count)):
            begun_s[t] = free
            computed = free + computing[i]
            together_s[t] = computed.max()
            for step in rounds.steps:
                ends[step.name][t] = computed if step.works else together_s[t] + since[step.name][i]
            free = ends[rounds.ends][t]
    times = tuple(
        RoundTimes(begun_s if step.works else ends[step.name], ends[step.name], _taken(steps, n), step.name)
        for step in rounds.steps
    )
    updates = np.broadcast_to(np.arange(steps)[:, None], (steps, n))
    computed = ends[rounds.steps[0].name]
    return timeline(
        np.broadcast_to(np.arange(n), (steps, n)), updates, updates,
        ends[rounds.ends][:, list(rounds.honest)].max(axis=1) if steps else np.empty(0),
        started_s=begun_s, received_s=begun_s, computed_s=computed,
        arrived_s=np.broadcast_to(together_s[:, None], (steps, n)),
    )._replace(rounds=times)  # fmt: skip


def _taken(steps: int, n: int) -> np.ndarray:
    return np.broadcast_to(True, (steps, n, 1))


def _meetings(
    rounds: Rounds, source: LatencyPart, seed: int, bits: MessageBits
) -> tuple[DrawMessages | None, int, dict[str, Meeting]]:
    """The draw of the delays of links, the most messages of a link in a round, and the exchanges."""
    pairs = {step.name: _pairs(step) for step in rounds.steps if step.reads}
    n, counts = len(rounds.steps[0].senders), Counter()
    heard: list[set[int]] = [set() for _ in range(n)]
    for mine in pairs.values():
        for sender, receiver in mine:
            heard[receiver].add(sender)
    senders = [sorted(each) for each in heard]
    found = {}
    for step in rounds.steps:
        if not pairs.get(step.name):
            continue
        mine, bandwidth = pairs[step.name], source.peer.bandwidth
        found[step.name] = Meeting(
            *np.array(mine).T,
            places=np.array([senders[receiver].index(sender) for sender, receiver in mine]),
            uses=np.array([counts[link] for link in mine]),
            seconds=np.zeros(len(mine))
            if bandwidth is None
            else np.array([step.bits_of(*pair, bits.peer) / bandwidth for pair in mine]),
        )
        counts.update(mine)
    if not found:
        return None, 0, found
    return build_links(source, seed, 0, "peer", senders), max(counts.values()), found


def _pairs(step: RoundStep) -> list[tuple[int, int]]:
    """The sender and receiver of each message of an exchange."""
    return [(sender, receiver) for receiver, senders in enumerate(step.senders) for sender in senders]
