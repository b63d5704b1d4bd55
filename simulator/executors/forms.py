"""The kinds of the updates of a block: their waves, and the rows that these read, as arrays."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.events import Network
from byzax.simulator.executors.event_parts import Parts
from byzax.simulator.executors.wave_lists import Vacancies, WaveList, waves_of
from byzax.simulator.executors.waves import LANES, HeldRows


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
        places: For each wave the places of its events in the block, `[t, w]`; -1 for one that does not happen.
        reads: The rows that these read.
    """

    waves: tuple[tuple[int, int, int, int, int, int], ...]
    pattern: tuple[int, ...]
    updates: np.ndarray
    places: list[np.ndarray]
    reads: list[Reads]


def forms_of(network: Network, parts: Parts, held: HeldRows, widest: int, vacancies: Vacancies) -> Iterator[Form]:
    """The kinds of the updates of a block.

    Args:
        network: The network.
        parts: The events of the block.
        held: The places of held rows.
        widest: The most rows of an update, up to which inboxes are filled up.
        vacancies: The nodes that have a place in a wave, by what the wave has beside its width; empty for those whose
            events happen.

    Yields:
        Each kind with its updates.

    Raises:
        ValueError: As `waves_of`.
    """
    found = waves_of(network, parts, widest)
    yield from (
        _filled_forms(network, parts, held, widest, found, vacancies)
        if vacancies
        else _exact_forms(network, parts, held, widest, found)
    )


def _exact_forms(network: Network, parts: Parts, held: HeldRows, widest: int, found: WaveList) -> Iterator[Form]:
    """The kinds of updates whose waves have the events that happen."""
    waves, bounds, alone, firsts, pattern = found
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


def _filled_forms(
    network: Network, parts: Parts, held: HeldRows, widest: int, found: WaveList, vacancies: Vacancies
) -> Iterator[Form]:
    """The kinds of updates whose waves have a place for every node, also where its event does not happen."""
    waves, bounds, events, *_ = found
    wave_of, nodes = np.repeat(np.arange(waves.shape[1]), waves[-1]), parts.block.node[events]
    updates: dict[bytes, list[int]] = {}
    for update, (since, until) in enumerate(pairwise(bounds.tolist())):
        updates.setdefault(waves[:-1, since:until].tobytes(), []).append(update)
    for mine in map(np.array, updates.values()):
        keys = [tuple(key) for key in waves[:-1, bounds[mine[0]] : bounds[mine[0] + 1]].T.tolist()]
        of_kind = tuple((*key, len(vacancies[key])) for key in keys)
        places = [np.full((len(mine), width), -1) for *_, width in of_kind]
        for number, (key, at) in enumerate(zip(keys, places, strict=True)):
            row = np.full(waves.shape[1], -1)
            row[bounds[mine] + number] = np.arange(len(mine))
            (here,) = np.nonzero(row[wave_of] >= 0)
            at[row[wave_of[here]], np.searchsorted(vacancies[key], nodes[here])] = events[here]
        pattern = tuple(np.repeat(np.arange(len(keys)), [width for *_, width in of_kind]).tolist())
        yield Form(of_kind, pattern, mine, places, _reads_of(network, parts, of_kind, places, held, widest))


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
        happens = mine >= 0
        there = (np.arange(k) < parts.rows[mine][..., None]) & happens[..., None]
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
        inside_of[mine[happens]] = (np.arange(width) * (new.shape[2] if steps[step].forges else 1) + 0 * mine)[happens]
        wave_of[mine[happens]] = number
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
    if reads.new.shape[1] == forging.new.shape[1]:
        # what does not happen reads nothing, as the forging event beside it
        which = np.where(reads.new_there.any(axis=2), which, np.arange(which.shape[1]))
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
