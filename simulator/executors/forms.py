"""The events of a block of updates in waves, as arrays."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.events import EventBlock, Network
from byzax.simulator.executors.waves import HeldRows


class Parts(NamedTuple):
    """The events of a block with what their waves are found by.

    Attributes:
        block: The block.
        update: `[E]`, the update of each event, counted from the first of the block.
        grouped: `[E]`, the jobs whose rows are held.
        level: `[E]`, rising from an event to those of its update that read its message or follow it at its node.
        rows: `[E]`, number of rows in the inbox of each.
        shows: `[E]`, whether it reads the last message of a node besides.
        place: `[M]`, the place in the block of the event that sent a message; outside of it for one of another block.
    """

    block: EventBlock
    update: np.ndarray
    grouped: np.ndarray
    level: np.ndarray
    rows: np.ndarray
    shows: np.ndarray
    place: np.ndarray


class Reads(NamedTuple):
    """The rows that the events of a wave read, `[t, w, k]`, filled up where the step pads.

    Attributes:
        there: Whether there is a row.
        at: Its place among the messages read in the block.
        wave: The wave of the same update that sends it; -1 for a row that is held.
        inside: Its place among the rows of that wave's messages, or among those held.
    """

    there: np.ndarray
    at: np.ndarray
    wave: np.ndarray
    inside: np.ndarray


class Form(NamedTuple):
    """The updates of one kind in a block.

    Attributes:
        waves: Step, number of rows (-1 where it varies), rows seen, whether last messages are read, and width of each
            wave.
        updates: `[t]`, counted from the first of the block.
        places: For each wave the places of its events in the block, `[t, w]`.
        reads: The rows that these read.
    """

    waves: tuple[tuple[int, int, int, int, int], ...]
    updates: np.ndarray
    places: list[np.ndarray]
    reads: list[Reads]


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
        ValueError: For an event that reads messages of the update before otherwise than compiled loops can.
    """
    block = network.table.events(since, until)
    update = np.repeat(np.arange(until - since), np.diff(block.bounds))
    reader = np.repeat(np.arange(len(update)), np.diff(block.first))
    place = block.source - block.begin
    now = place >= block.bounds[update[reader]]
    old = ~now & (block.job < 0)
    shows = np.bincount(reader[old], minlength=len(update))
    last = np.zeros(len(place), bool)
    last[block.first[1:][np.diff(block.first) > 0] - 1] = True
    if (old & ~last).any():
        name = network.steps[block.step[reader[np.argmax(old & ~last)]]].name
        raise ValueError(
            f"the step {name} reads messages of the update before: compiled loops need one of them at most, as the "
            "last that an event reads: list it so, or take executor loop or ray"
        )
    grouped = (block.row >= 0) & (held.most > 0)
    kinds = list(dict.fromkeys(step.kind for step in network.steps))
    kind = np.array([kinds.index(step.kind) for step in network.steps])[block.step]
    # the event before it of the same node in its update
    order = np.lexsort((np.arange(len(update)), block.node, kind, update))
    same = ~np.diff(np.stack([update, kind, block.node])[:, order]).any(axis=0)
    after, before = order[1:][same & ~grouped[order[:-1]]], order[:-1][same & ~grouped[order[:-1]]]
    now &= ~grouped[np.maximum(place, 0)]
    level = np.zeros(len(update), int)
    while True:
        found = np.zeros_like(level)
        np.maximum.at(found, reader[now], level[place[now]] + 1)
        found[after] = np.maximum(found[after], level[before] + 1)
        if (found == level).all():
            return Parts(block, update, grouped, level, np.diff(block.first) - shows, shows, place)
        level = found


def forms_of(network: Network, parts: Parts, held: HeldRows, widest: int) -> Iterator[Form]:
    """The kinds of the updates of a block.

    Args:
        network: The network.
        parts: The events of the block.
        held: The places of held rows.
        widest: The most rows of an update, up to which inboxes are filled up.

    Yields:
        Each kind with its updates.
    """
    block = parts.block
    pads = np.array([step.pads for step in network.steps])[block.step]
    rows = np.where(pads, -1, parts.rows)
    alone = np.flatnonzero(~parts.grouped)
    about = np.stack([parts.update, parts.level, block.step, rows, block.seen, parts.shows])[:, alone]
    # those of one wave in the order of their rows in the timeline, in which others read them
    order = np.lexsort((alone, block.row[alone], *about[::-1]))
    alone, about = alone[order], about[:, order]
    begins = np.flatnonzero(np.concatenate([[True], np.diff(about).any(axis=0)]))
    waves = np.concatenate([about[2:, begins], np.diff(np.append(begins, len(alone)))[None]])
    bounds = np.searchsorted(about[0, begins], np.arange(len(block.bounds)))
    updates: dict[bytes, list[int]] = {}
    count = int(bounds[1])
    if len(begins) == count * (len(bounds) - 1) and (waves == np.tile(waves[:, :count], len(bounds) - 1)).all():
        # nearly always, and quickly found
        updates[b""] = list(range(len(bounds) - 1))
    else:
        for update, (since, until) in enumerate(pairwise(bounds.tolist())):
            updates.setdefault(waves[:, since:until].tobytes(), []).append(update)
    firsts = np.append(begins, len(alone))[bounds]
    for mine in map(np.array, updates.values()):
        of_kind = tuple(map(tuple, waves[:, bounds[mine[0]] : bounds[mine[0] + 1]].T.tolist()))
        ends = np.cumsum([width for *_, width in of_kind])
        places = np.split(alone[firsts[mine][:, None] + np.arange(ends[-1])], ends[:-1], axis=1)
        yield Form(of_kind, mine, places, _reads_of(network, parts, of_kind, places, held, widest))


def _reads_of(
    network: Network,
    parts: Parts,
    waves: Sequence[Any],
    places: Sequence[np.ndarray],
    held: HeldRows,
    widest: int,
) -> list[Reads]:
    block, steps, found = parts.block, network.steps, []
    wave_of, inside_of = np.full(len(parts.update), -1), np.zeros(len(parts.update), int)
    for number, (mine, (step, rows, *_, width)) in enumerate(zip(places, waves, strict=True)):
        k = widest if rows < 0 else rows
        there = np.arange(k) < parts.rows[mine][..., None]
        at = np.where(there, block.first[mine][..., None] + np.arange(k), 0)
        source, job = np.where(there, parts.place[at], 0), block.job[at]
        is_held = there & (job >= 0) & (held.most > 0)
        source = np.where(is_held, 0, source)
        inside = np.where(is_held, held.slots[job], inside_of[source] + np.maximum(block.port[at], 0))
        reads = Reads(there, at, np.where(is_held | ~there, -1, wave_of[source]), np.where(there, inside, 0))
        for earlier, (other, as_many, *_) in enumerate(waves[:number]):
            if steps[other].forges and as_many == rows:
                reads = _through_forging(reads, found[earlier], earlier)
        found.append(reads)
        wave_of[mine], inside_of[mine] = number, np.arange(width) * (k if steps[step].forges else 1)
    return found


def _through_forging(reads: Reads, forging: Reads, wave: int) -> Reads:
    """Rows that were put through a forging event, which leaves those of honest workers as they are, are read from it.

    Args:
        reads: The rows that the events of a wave read.
        forging: Those that forging events of the same updates read.
        wave: The wave of these.

    Returns:
        The same rows, all of them messages of the forging events where these read all of them too.
    """
    k, forged = reads.there.shape[2], reads.wave == wave
    which = np.where(forged, reads.inside // max(k, 1), -1).max(axis=2, initial=-1)
    if reads.there.shape[1] == forging.there.shape[1] == 1 and (which >= 0).any():
        # in some updates no worker is Byzantine
        which[:] = 0
    if (which < 0).any():
        return reads
    inside = which[..., None] * k + np.arange(k)
    given = [np.take_along_axis(each, which[..., None], axis=1) for each in (forging.wave, forging.inside)]
    same = np.where(forged, reads.inside == inside, (reads.wave == given[0]) & (reads.inside == given[1]))
    return reads._replace(wave=np.full_like(reads.wave, wave), inside=inside) if (same | ~reads.there).all() else reads


def runs_of(parts: Parts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The jobs whose rows are held, in runs of one update in which no worker is twice.

    Returns:
        Their places in the block, run by run; and of each run its update and its length.
    """
    mine = np.flatnonzero(parts.grouped)
    update, node = parts.update[mine], parts.block.node[mine]
    order = np.lexsort((node, update))
    pair = (update * (node.max(initial=0) + 1) + node)[order]
    again = np.empty(len(mine), int)
    again[order] = np.arange(len(mine)) - np.searchsorted(pair, pair)
    order = np.lexsort((node, again, update))
    run = np.stack([update, again])[:, order]
    begins = np.flatnonzero(np.concatenate([[True], np.diff(run).any(axis=0)])[: len(mine)])
    return mine[order], run[0, begins], np.diff(np.append(begins, len(mine)))
