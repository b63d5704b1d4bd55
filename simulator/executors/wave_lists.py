"""The events of a block of updates sorted into waves, and the nodes that have a place in each of these."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from byzax.simulator.events import EventBlock, Network
from byzax.simulator.executors.event_parts import Parts, refuse

# The nodes that have a place in a wave, rising, by what the wave has beside its width (see `Form.waves`).
Vacancies = Mapping[tuple[int, ...], np.ndarray]


class WaveList(NamedTuple):
    """The waves of the updates of a block, one after the other, W waves of E events in all.

    Attributes:
        waves: `[6, W]`. See `Form.waves`.
        bounds: `[t + 1]`, where the waves of each update begin.
        events: `[E]`, the places of the events in the block, wave by wave.
        firsts: `[t + 1]`, where the events of each update begin in `events`.
        wave: `[E]`, the wave of each event, counted from the first of its update, in the order of the block, but for
            events that nobody reads, which come first.
    """

    waves: np.ndarray
    bounds: np.ndarray
    events: np.ndarray
    firsts: np.ndarray
    wave: np.ndarray


def waves_of(network: Network, parts: Parts, widest: int) -> WaveList:
    """The waves of the updates of a block.

    Args:
        network: The network.
        parts: The events of the block.
        widest: The most rows of an update, up to which inboxes are filled up.

    Returns:
        The waves.

    Raises:
        ValueError: For an event of a step that pads with more rows than any update has, and for an update without any
            events but jobs whose rows are held.
    """
    block = parts.block
    pads = np.array([step.pads for step in network.steps])[block.step]
    keeps = np.array([step.last_rows is not None for step in network.steps])[block.step]
    wide = np.flatnonzero(pads & ~keeps & (parts.rows > widest))
    refuse(network, block, wide, f"pads, and reads more rows than the {widest} of an update: leave pads out")
    rows = np.where(pads, -1, parts.rows)
    alone = np.flatnonzero(~parts.grouped)
    counted = np.concatenate([[0], np.cumsum(block.lag == 0)])
    new = np.where(keeps, np.diff(counted[block.first]), 0)
    about = np.stack([parts.update, parts.level, block.step, rows, block.seen, parts.shows, new])[:, alone]
    # those of one wave in the order of their rows in the timeline, in which others read them
    order = np.lexsort((alone, block.row[alone], *about[::-1]))
    alone, about = alone[order], about[:, order]
    begins = np.flatnonzero(np.concatenate([[True], np.diff(about).any(axis=0)]))
    waves = np.concatenate([about[2:, begins], np.diff(np.append(begins, len(alone)))[None]])
    bounds = np.searchsorted(about[0, begins], np.arange(len(block.bounds)))
    if not np.diff(bounds).all():
        raise ValueError(
            "an update has no events but jobs whose rows are kept for later ones, and compiled loops need others: list "
            "one, or take executor loop or ray"
        )
    firsts = np.append(begins, len(alone))[bounds]
    # the wave of each event, counted from the first of the update, in the order of the table; those that nobody reads
    # measure nothing, and have one order in all updates
    unread = np.array([step.unread for step in network.steps])[block.step[alone]]
    listed = np.lexsort((alone, ~unread, about[0]))
    pattern = (np.repeat(np.arange(len(begins)), waves[-1]) - bounds[about[0]])[listed]
    return WaveList(waves, bounds, alone, firsts, pattern)


def vacancies_of(found: WaveList, block: EventBlock, before: Vacancies) -> Vacancies:
    """The nodes that have a place in each wave of a block, and of those before.

    Args:
        found: The waves.
        block: The block.
        before: The nodes in blocks before.

    Returns:
        The nodes, rising.
    """
    nodes = dict(before)
    starts = np.concatenate([[0], np.cumsum(found.waves[-1])])
    number = np.repeat(np.arange(found.waves.shape[1]), found.waves[-1])
    kinds, kind_of = np.unique(found.waves[:-1], axis=1, return_inverse=True)
    assert starts[-1] == len(found.events)
    for kind, key in enumerate(map(tuple, kinds.T.tolist())):
        mine = block.node[found.events[kind_of.reshape(-1)[number] == kind]]
        nodes[key] = np.union1d(nodes.get(key, mine), mine)
    return nodes
