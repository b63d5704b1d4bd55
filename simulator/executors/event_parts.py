"""The events of a block of updates with what compiled loops sort them by: levels, sizes of inboxes, jobs."""

from typing import NamedTuple

import numpy as np

from byzax.simulator.events import EventBlock, Network
from byzax.simulator.executors.waves import HeldRows


class Parts(NamedTuple):
    """The events of a block with what their waves are found by.

    Attributes:
        block: The block.
        update: `[E]`, the update of each event, counted from the first of the block.
        grouped: `[E]`, the jobs whose rows are held.
        left_out: `[E]`, those of them whose rows nobody reads: they are not carried out.
        level: `[E]`, rising from an event to those of its update that read its message or follow it at its node: the
            place of its step, where these are listed in the order in which they follow each other.
        rows: `[E]`, number of rows in the inbox of each.
        shows: `[E]`, the kind of the node whose last message it reads besides, by its place in `kinds_of`; -1 for none.
        place: `[M]`, the place in the block of the event that sent a message; outside of it for one of another block.
    """

    block: EventBlock
    update: np.ndarray
    grouped: np.ndarray
    left_out: np.ndarray
    level: np.ndarray
    rows: np.ndarray
    shows: np.ndarray
    place: np.ndarray


def kinds_of(network: Network) -> list[str]:
    """The kinds of nodes, also those of steps without events."""
    return [*dict.fromkeys([*network.nodes, *(step.kind for step in network.steps)])]


def parts_of(network: Network, since: int, until: int, held: HeldRows) -> Parts:
    """The events of some updates.

    Args:
        network: The network.
        since: The first update.
        until: The update after the last one.
        held: The places of held rows.

    Returns:
        The events, with their levels.

    Raises:
        ValueError: For an event that reads messages of updates before otherwise than compiled loops can.
    """
    block = network.table.events(since, until)
    update = np.repeat(np.arange(until - since), np.diff(block.bounds))
    reader = np.repeat(np.arange(len(update)), np.diff(block.first))
    place, into = block.source - block.begin, update[reader]
    now = place >= block.bounds[into]
    old = ~now & (block.job < 0) & (block.port < 0)
    kinds = kinds_of(network)
    kind = np.array([kinds.index(step.kind) for step in network.steps])[block.step]
    last = np.zeros(len(place), bool)
    last[block.first[1:][np.diff(block.first) > 0] - 1] = True
    refuse(
        network, block, reader[old & ~last], "reads messages of the update before: compiled loops need one of them at "
        "most, as the last that an event reads: list it so",
    )  # fmt: skip
    forges = np.array([step.forges for step in network.steps])[block.step]
    whole = np.flatnonzero(now & (block.port < 0))
    refuse(
        network, block, reader[whole[forges[place[whole]]]], "reads the whole message of a forging event, of which "
        "compiled loops take single rows: list these",
    )  # fmt: skip
    keeps = np.array([step.last_rows is not None for step in network.steps])[block.step]
    late = ((block.job >= 0) & (block.job < held.first[since + into])) | (~now & (block.port >= 0))
    refuse(
        network, block, reader[late & ~keeps[reader]], "reads a row after the update of the timeline that it goes "
        "into, where compiled loops keep it no longer: list it in that update alone, give its NodeStep last_rows",
    )  # fmt: skip
    pair = (update * len(network.steps) + block.step)[keeps]
    refuse(
        network, block, np.flatnonzero(keeps)[1:][np.diff(pair) == 0], "reads last rows, for which compiled loops take "
        "one event of an update: list one",
    )  # fmt: skip
    shows = np.full(len(update), -1)
    shows[reader[old]] = kind[np.maximum(place[old], 0)]
    # those sent before the block are the last ones of their nodes at its beginning
    earlier = np.flatnonzero(old & (place < 0))
    kept = network.table.kept(since) if earlier.size else {}
    shows[reader[earlier]] = [kinds.index(kept[number][0][0]) for number in block.source[earlier].tolist()]
    grouped = (block.row >= 0) & (held.most > 0)
    left_out = grouped & np.array([step.unread for step in network.steps])[block.step]
    # the event before it of the same node in its update
    order = np.lexsort((np.arange(len(update)), block.node, kind, update))
    same = ~np.diff(np.stack([update, kind, block.node])[:, order]).any(axis=0)
    after, before = order[1:][same & ~grouped[order[:-1]]], order[:-1][same & ~grouped[order[:-1]]]
    now = np.flatnonzero(now)
    now = now[~grouped[place[now]]]
    earlier, later = np.concatenate([place[now], before]), np.concatenate([reader[now], after])
    level, depends = block.step.copy(), np.isin(np.arange(len(update)), later)
    # updates in which an event follows one of its own step, or of one that is listed later
    other = np.isin(update, update[later[block.step[earlier] >= block.step[later]]])
    if other.any():
        level[other] = _levels(earlier, later, len(update))[other]
    rows = np.diff(block.first) - (shows >= 0)
    first = grouped & ~depends & (rows == 0) & (shows >= 0)
    refuse(
        network, block, np.flatnonzero(grouped & ~first), "makes rows that are kept for later updates, and compiled "
        "loops need such jobs first in their update, to read the last message of a node alone: list them so",
    )  # fmt: skip
    return Parts(block, update, grouped, left_out, level, rows, shows, place)


def _levels(earlier: np.ndarray, later: np.ndarray, count: int) -> np.ndarray:
    """The level of each of so many events, rising from earlier ones to later ones."""
    level = np.zeros(count, int)
    while True:
        found = np.zeros_like(level)
        np.maximum.at(found, later, level[earlier] + 1)
        if (found == level).all():
            return level
        level = found


def refuse(network: Network, block: EventBlock, places: np.ndarray, words: str) -> None:
    """Refuses a table.

    Args:
        network: The network.
        block: The block.
        places: The places of events in it that cannot be carried out in compiled code.
        words: The reason.

    Raises:
        ValueError: Names the step of the first event; none for no events.
    """
    if places.size:
        raise ValueError(f"the step {network.steps[block.step[places[0]]].name} {words}, or take executor loop or ray")


def runs_of(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """The jobs whose rows are held and read, in runs of one update on the message of one node, no worker twice in any.

    Returns:
        Their places in the block, run by run; and of each run its update, its length and the node, `[3, J]`.
    """
    mine = np.flatnonzero(parts.grouped & ~parts.left_out)
    update, node = parts.update[mine], parts.block.node[mine]
    shown = parts.block.sender[parts.block.first[mine]]
    order = np.lexsort((node, update))
    pair = (update * (node.max(initial=0) + 1) + node)[order]
    again = np.empty(len(mine), int)
    again[order] = np.arange(len(mine)) - np.searchsorted(pair, pair)
    order = np.lexsort((node, shown, again, update))
    run = np.stack([update, again, shown])[:, order]
    begins = np.flatnonzero(np.concatenate([[True], np.diff(run).any(axis=0)])[: len(mine)])
    return mine[order], np.stack([run[0, begins], np.diff(np.append(begins, len(mine))), run[2, begins]])
