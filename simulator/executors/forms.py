"""The events of a block of updates in waves, as arrays."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.events import EventBlock, Network
from byzax.simulator.executors.waves import LANES, HeldRows


class Parts(NamedTuple):
    """The events of a block with what their waves are found by.

    Attributes:
        block: The block.
        update: `[E]`, the update of each event, counted from the first of the block.
        grouped: `[E]`, the jobs whose rows are held.
        level: `[E]`, rising from an event to those of its update that read its message or follow it at its node: the
            place of its step, where these are listed in the order in which they follow each other.
        rows: `[E]`, number of rows in the inbox of each.
        shows: `[E]`, the kind of the node whose last message it reads besides, by its place in `kinds_of`; -1 for none.
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
    """The rows that the events of a wave read, filled up where the step pads.

    Attributes:
        there: `[t, w, k]`, whether there is a row.
        at: `[t, w, k]`, its place among the messages read in the block.
        new: `[t, w, r]`, the places of the new ones among the k.
        wave: `[t, w, r]`, the wave of the same update that sends it; -1 for a row that is held.
        inside: `[t, w, r]`, its place among the rows of that wave's messages, or among those held.
    """

    there: np.ndarray
    at: np.ndarray
    new: np.ndarray
    wave: np.ndarray
    inside: np.ndarray

    @property
    def new_there(self) -> np.ndarray:
        """`[t, w, r]`, whether there is a new row."""
        return np.take_along_axis(self.there, self.new, axis=2)


class Form(NamedTuple):
    """The updates of one kind in a block.

    Attributes:
        waves: Step, number of rows (-1 where it varies), rows seen, kind of the nodes whose last messages are read (see
            `Parts.shows`), number of new rows where last rows are read, and width of each wave.
        pattern: The wave of each event in the order of the table.
        updates: `[t]`, counted from the first of the block.
        places: For each wave the places of its events in the block, `[t, w]`.
        reads: The rows that these read.
    """

    waves: tuple[tuple[int, int, int, int, int, int], ...]
    pattern: tuple[int, ...]
    updates: np.ndarray
    places: list[np.ndarray]
    reads: list[Reads]


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
    _refuse(
        network, block, reader[old & ~last], "reads messages of the update before: compiled loops need one of them at "
        "most, as the last that an event reads: list it so",
    )  # fmt: skip
    forges = np.array([step.forges for step in network.steps])[block.step]
    whole = np.flatnonzero(now & (block.port < 0))
    _refuse(
        network, block, reader[whole[forges[place[whole]]]], "reads the whole message of a forging event, of which "
        "compiled loops take single rows: list these",
    )  # fmt: skip
    keeps = np.array([step.last_rows is not None for step in network.steps])[block.step]
    late = ((block.job >= 0) & (block.job < held.first[since + into])) | (~now & (block.port >= 0))
    _refuse(
        network, block, reader[late & ~keeps[reader]], "reads a row after the update of the timeline that it goes "
        "into, where compiled loops keep it no longer: list it in that update alone, give its NodeStep last_rows",
    )  # fmt: skip
    pair = (update * len(network.steps) + block.step)[keeps]
    _refuse(
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
    _refuse(
        network, block, np.flatnonzero(grouped & ~first), "makes rows that are kept for later updates, and compiled "
        "loops need such jobs first in their update, to read the last message of a node alone: list them so",
    )  # fmt: skip
    return Parts(block, update, grouped, level, rows, shows, place)


def _levels(earlier: np.ndarray, later: np.ndarray, count: int) -> np.ndarray:
    """The level of each of so many events, rising from earlier ones to later ones."""
    level = np.zeros(count, int)
    while True:
        found = np.zeros_like(level)
        np.maximum.at(found, later, level[earlier] + 1)
        if (found == level).all():
            return level
        level = found


def _refuse(network: Network, block: EventBlock, places: np.ndarray, words: str) -> None:
    """Raises ValueError that names the step of the first of some events; none for no events."""
    if places.size:
        raise ValueError(f"the step {network.steps[block.step[places[0]]].name} {words}, or take executor loop or ray")


def forms_of(network: Network, parts: Parts, held: HeldRows, widest: int) -> Iterator[Form]:
    """The kinds of the updates of a block.

    Args:
        network: The network.
        parts: The events of the block.
        held: The places of held rows.
        widest: The most rows of an update, up to which inboxes are filled up.

    Yields:
        Each kind with its updates.

    Raises:
        ValueError: For an event of a step that pads with more rows than any update has, and for an update without any
            events but jobs whose rows are held.
    """
    block = parts.block
    pads = np.array([step.pads for step in network.steps])[block.step]
    keeps = np.array([step.last_rows is not None for step in network.steps])[block.step]
    wide = np.flatnonzero(pads & ~keeps & (parts.rows > widest))
    _refuse(network, block, wide, f"pads, and reads more rows than the {widest} of an update: leave pads out")
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
    # the wave of each event, counted from the first of its update, in the order of the table
    pattern = (np.repeat(np.arange(len(begins)), waves[-1]) - bounds[about[0]])[np.argsort(alone)]
    updates: dict[bytes, list[int]] = {}
    count, length, width = len(bounds) - 1, int(bounds[1]), int(firsts[1])
    if (
        (bounds == length * np.arange(count + 1)).all()
        and (firsts == width * np.arange(count + 1)).all()
        and (waves == np.tile(waves[:, :length], count)).all()
        and (pattern == np.tile(pattern[:width], count)).all()
    ):
        # nearly always, and quickly found
        updates[b""] = list(range(count))
    else:
        for update, ((since, until), (begin, end)) in enumerate(
            zip(pairwise(bounds.tolist()), pairwise(firsts.tolist()), strict=True)
        ):
            like = waves[:, since:until].tobytes() + pattern[begin:end].tobytes()
            updates.setdefault(like, []).append(update)
    for mine in map(np.array, updates.values()):
        of_kind = tuple(map(tuple, waves[:, bounds[mine[0]] : bounds[mine[0] + 1]].T.tolist()))
        ends = np.cumsum([width for *_, width in of_kind])
        places = np.split(alone[firsts[mine][:, None] + np.arange(ends[-1])], ends[:-1], axis=1)
        events = tuple(pattern[firsts[mine[0]] : firsts[mine[0] + 1]].tolist())
        yield Form(of_kind, events, mine, places, _reads_of(network, parts, of_kind, places, held, widest))


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
        lanes, k = LANES[steps[step].last_rows], rows
        if rows < 0:
            k = lanes * network.nodes["worker"] if lanes else widest
        there = np.arange(k) < parts.rows[mine][..., None]
        at = np.where(there, block.first[mine][..., None] + np.arange(k), 0)
        read, is_new, new = at, there, np.broadcast_to(np.arange(k), there.shape)
        if lanes:
            if rows < 0 and not there.all():
                there, at = _by_worker(network, parts, mine, lanes)
            new = np.nonzero(there & (block.lag[at] == 0))[2].reshape(*mine.shape, -1)
            read, is_new = np.take_along_axis(at, new, axis=2), np.take_along_axis(there, new, axis=2)
        source, job = np.where(is_new, parts.place[read], 0), block.job[read]
        is_held = is_new & (job >= 0) & (held.most > 0)
        source = np.where(is_held, 0, source)
        inside = np.where(is_held, held.slots[job], inside_of[source] + np.maximum(block.port[read], 0))
        reads = Reads(there, at, new, np.where(is_held | ~is_new, -1, wave_of[source]), np.where(is_new, inside, 0))
        for earlier, (other, *_) in enumerate(waves[:number]):
            if steps[other].forges and found[earlier].new.shape[2] == new.shape[2]:
                reads = _through_forging(reads, found[earlier], earlier)
        found.append(reads)
        wave_of[mine], inside_of[mine] = number, np.arange(width) * (new.shape[2] if steps[step].forges else 1)
    return found


def _by_worker(network: Network, parts: Parts, mine: np.ndarray, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Last rows with a place for every worker, in each lane: whether there is one, and its place among all reads."""
    block, n = parts.block, network.nodes["worker"]
    there, at = np.zeros((*mine.shape, lanes * n), bool), np.zeros((*mine.shape, lanes * n), int)
    number = np.arange(parts.rows[mine].max(initial=0))
    t, w, i = np.nonzero(number < parts.rows[mine][..., None])
    read = block.first[mine[t, w]] + i
    place = i * lanes // parts.rows[mine[t, w]] * n + block.sender[read]
    there[t, w, place], at[t, w, place] = True, read
    return there, at


def _through_forging(reads: Reads, forging: Reads, wave: int) -> Reads:
    """Rows that were put through a forging event, which leaves those of honest workers as they are, are read from it.

    Args:
        reads: The rows that the events of a wave read.
        forging: Those that forging events of the same updates read.
        wave: The wave of these.

    Returns:
        The same rows, all of them messages of the forging events where these read all of them too.
    """
    k, forged = reads.new.shape[2], reads.wave == wave
    which = np.where(forged, reads.inside // max(k, 1), -1).max(axis=2, initial=-1)
    if reads.new.shape[1] == forging.new.shape[1] == 1 and (which >= 0).any():
        # in some updates no worker is Byzantine
        which[:] = 0
    if (which < 0).any():
        return reads
    inside = which[..., None] * k + np.arange(k)
    there, *given = (
        np.take_along_axis(each, which[..., None], axis=1) for each in (forging.new_there, forging.wave, forging.inside)
    )
    same = np.where(forged, reads.inside == inside, (reads.wave == given[0]) & (reads.inside == given[1]))
    if not ((same | ~reads.new_there) & (reads.new_there == there)).all():
        return reads
    return reads._replace(wave=np.full_like(reads.wave, wave), inside=inside)


def runs_of(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """The jobs whose rows are held, in runs of one update that read the message of one node, no worker twice in any.

    Returns:
        Their places in the block, run by run; and of each run its update, its length and the node, `[3, J]`.
    """
    mine = np.flatnonzero(parts.grouped)
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
