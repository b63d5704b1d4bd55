"""Nodes that wait for the first messages of others: when each has them, and which they are, while it is alive."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from byzax.simulator.config.latency import LatencyPart

if TYPE_CHECKING:
    from byzax.simulator.rounds import RoundStep

# The spells in which a node is alive: the seconds at which each begins and ends.
Spells = list[tuple[float, float]]


def spells_of(source: LatencyPart) -> dict[str, dict[int, Spells]]:
    """The spells of life of the nodes that die.

    Args:
        source: The latency in a scenario.

    Returns:
        The spells by the kind and the number of a node.
    """
    found: dict[str, dict[int, Spells]] = {}
    for crash in sorted(source.crashes, key=lambda crash: (crash.node, crash.at)):
        kind, node = crash.node
        mine = found.setdefault(kind, {}).setdefault(node, [(0.0, np.inf)])
        mine[-1] = mine[-1][0], crash.at
        if crash.back is not None:
            mine.append((crash.back, np.inf))
    return found


def alive_s(free_s: np.ndarray, mortal: Mapping[int, Spells]) -> np.ndarray:
    """The first second from which each node is free and alive; infinite for never."""
    found = free_s.copy()
    for node, alive in mortal.items():
        found[node] = next((max(begin, free_s[node]) for begin, end in alive if free_s[node] < end), np.inf)
    return found


def dies_s(alive: Spells, at_s: float) -> float:
    """The second at which a node that is alive at one dies; before all others where it is not."""
    return next((end for begin, end in alive if begin <= at_s < end), -np.inf)


def still_comes(step: "RoundStep", there_s: np.ndarray, back_s: np.ndarray) -> np.ndarray:
    """`[nodes]`, true where a message of another node comes after the second at which it is back."""
    comes = np.isfinite(there_s) & (there_s >= back_s[:, None])
    comes[own_places(step)] = False
    return np.asarray(comes.any(axis=1))


def own_places(step: "RoundStep") -> tuple[np.ndarray, np.ndarray]:
    """The nodes of a step, and the place of its own message among those that each may read."""
    return np.arange(len(step.senders)), np.array([those.index(node) for node, those in enumerate(step.senders)])


def first_messages(
    step: "RoundStep",
    t: int,
    quorums: np.ndarray,
    there_s: np.ndarray,
    free_s: np.ndarray,
    mortal: Mapping[int, Spells],
) -> tuple[np.ndarray, np.ndarray]:
    """The messages with which nodes take a step.

    Args:
        step: The step.
        t: The round.
        quorums: `[nodes]`, the number of messages that each node waits for.
        there_s: `[nodes, k]`, the second at which each message that a node may read is there; infinite for never.
        free_s: `[nodes]`, the second at which each is done with the step before.
        mortal: The spells of life of the nodes that die.

    Returns:
        `[nodes]`, the second at which each has its messages and is free, infinite for never; and `[nodes, k]`, which
        messages they are.
    """
    if (t + 1) % step.every:
        mine = np.zeros(there_s.shape, bool)
        mine[own_places(step)] = True
        quorums, there_s = np.ones_like(quorums), np.where(mine, there_s, np.inf)
    early_s = there_s
    if step.alone:
        own = own_places(step)
        there_s = np.where(np.isfinite(there_s[own])[:, None], there_s, np.inf)
        # its own is always one of the first
        early_s = there_s.copy()
        early_s[own] = np.where(np.isfinite(there_s[own]), -np.inf, np.inf)
        quorums = np.where(np.isfinite(there_s).sum(axis=1) < quorums, 1, quorums)
    order = np.argsort(early_s, axis=1, kind="stable")
    last_s = np.take_along_axis(early_s, order[np.arange(len(order)), quorums - 1][:, None], axis=1)[:, 0]
    taken = np.zeros(there_s.shape, bool)
    np.put_along_axis(taken, order, np.arange(there_s.shape[1]) < quorums[:, None], axis=1)
    taken &= (last_s < np.inf)[:, None]
    begin_s = np.where(last_s < np.inf, np.maximum(free_s, last_s), np.inf)
    for node, alive in mortal.items():
        begin_s[node], taken[node] = np.inf, False
        for begin, end in alive:
            # messages that arrive at a dead node are lost, and those that it had die with it
            heard = [place for place in order[node] if begin <= there_s[node, place] < end][: quorums[node]]
            if step.alone:
                if not heard or step.senders[node][heard[0]] != node:
                    continue
                heard = heard if len(heard) == quorums[node] else heard[:1]
            elif len(heard) < quorums[node]:
                continue
            begins_s = max(free_s[node], *there_s[node, heard])
            if begins_s < end:
                begin_s[node] = begins_s
                taken[node, heard] = True
                break
    return begin_s, taken
