"""The events of updates as compiled loops carry them out: those of one step that can be carried out together."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.events import EventBlock, Network, NodeStep
from byzax.simulator.periodic import WORK
from byzax.simulator.timeline import Timeline

# Updates whose events are looked at together.
AT_ONCE = 256


class Wave(NamedTuple):
    """Events of one step that are carried out together, the same in all updates of a kind.

    Attributes:
        step: The step, as its place in `Network.steps`.
        width: Number of events.
        rows: Number of rows in each inbox.
        seen: Number of rows that the rule sees.
        shown: Kind of the node whose last message of the update before each event reads besides; empty for none.
        shared: Whether all of them read that of one node.
        whole: Whether they are events of all nodes of their kind, in order.
        reads: The waves of the same update whose messages they read; -1 stands for rows that are held across updates.
        direct: Whether their rows are just the messages of one wave, in order, and need not be gathered.
        padded: Whether some inboxes are filled up.
        leaves: Whether rows of workers leave the table at some of them.
    """

    step: int
    width: int
    rows: int
    seen: int
    shown: str
    shared: bool
    whole: bool
    reads: tuple[int, ...]
    direct: bool
    padded: bool
    leaves: bool

    def merged(self, other: "Wave") -> "Wave":
        """The wave with what holds of the events of two blocks."""
        return self._replace(
            shared=self.shared and other.shared,
            whole=self.whole and other.whole,
            reads=tuple(sorted({*self.reads, *other.reads})),
            direct=self.direct and other.direct and self.reads == other.reads,
            padded=self.padded or other.padded,
            leaves=self.leaves or other.leaves,
        )


class Groups(NamedTuple):
    """Jobs whose rows are held, at the beginning of an update: as many as there are, in groups of some widths.

    Attributes:
        step: The step, as its place in `Network.steps`.
        widths: The widths of groups, rising.
        single: Whether every update of the kind has just one group.
        shown: Kind of the node whose last message all of them read.
    """

    step: int
    widths: tuple[int, ...]
    single: bool
    shown: str


class UpdateKind(NamedTuple):
    """The events of an update, but for the numbers in them.

    Attributes:
        groups: The jobs whose rows are held; None where no rows are.
        waves: The other events.
        order: The places of these among all events of the waves, in the order of the table.
    """

    groups: Groups | None
    waves: tuple[Wave, ...]
    order: tuple[int, ...]


class WaveEvents(NamedTuple):
    """The events of a wave in t updates, w in each: whole numbers of NumPy, or of JAX in a loop.

    Attributes:
        nodes: `[t, w]`.
        turns: `[t, w]`.
        senders: `[t, w, k]`. See `NodeEvent`.
        versions: `[t, w, k]`.
        shown: `[t, w]`, the node whose last message is read besides.
        places: `[t, w, k]`, the places of rows among those of `Wave.reads`, one after the other; None where they are
            not gathered.
        gone: `[t, n]`, the workers whose row has left the table; None for none.
    """

    nodes: Any
    turns: Any
    senders: Any
    versions: Any
    shown: Any
    places: Any
    gone: Any


class GroupEvents(NamedTuple):
    """The jobs of t updates in groups: whole numbers of NumPy, or of JAX in a loop.

    Attributes:
        bounds: `[t, 2]`, the groups of each update, from and up to.
        begins: `[g]`, the first job of each group.
        widths: `[g]`, the width of each group, by its place in `Groups.widths`.
        nodes: `[e]`.
        turns: `[e]`.
        versions: `[e]`, the versions that the workers were handed.
        slots: `[e]`, the places at which the rows are held.
        shown: `[t]`, the node whose last message is read.
    """

    bounds: Any
    begins: Any
    widths: Any
    nodes: Any
    turns: Any
    versions: Any
    slots: Any
    shown: Any


class HeldRows(NamedTuple):
    """The places at which rows are held from the update in which they are computed until they are read.

    Attributes:
        slots: `[R]`, for each row of the timeline.
        most: The most rows of one worker that are held at once; 0 where each is read in the update that computes it.
    """

    slots: np.ndarray
    most: int


def held_rows(steps: Sequence[NodeStep], timeline: Timeline, n: int, least: int = 0) -> HeldRows:
    """Finds places for the rows of a timeline.

    Args:
        steps: The steps of the network.
        timeline: The timeline.
        n: Number of workers.
        least: Places of each worker at least.

    Returns:
        The places.
    """
    rows, updates = timeline.rows, timeline.updates
    pair = np.sort(rows.versions.astype(np.int64) * n + rows.workers)
    pads = any(step.pads for step in steps) and bool(np.diff(timeline.sizes).any())
    if not (least or pads or (rows.versions != updates).any() or (pair[1:] == pair[:-1]).any()):
        return HeldRows(np.zeros(len(updates), np.int32), 0)
    # a worker's rows one after the other: with m places for each, place m more is free again when it is needed
    mine = np.lexsort((rows.jobs, rows.workers))
    workers, versions, until = rows.workers[mine], rows.versions[mine], updates[mine]
    most = max(1, least)
    while not ((workers[most:] != workers[:-most]) | (versions[most:] > until[:-most])).all():
        most += 1
    turn = np.arange(len(mine)) - np.searchsorted(workers, workers)
    slots = np.empty(len(mine), np.int32)
    slots[mine] = workers * most + turn % most
    return HeldRows(slots, most)


class _Parts(NamedTuple):
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


class _Reads(NamedTuple):
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


class _Form(NamedTuple):
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
    reads: list[_Reads]


class Program:
    """The compiled form of a network: the kinds of its updates, and the numbers of their events.

    Attributes:
        kinds: The kinds.
        kind_of: `[T]`, the kind of each update.
        jobs: `[2, J]`, the update and the number of jobs whose rows are held, each of another worker.
    """

    def __init__(self, network: Network, timeline: Timeline, held: HeldRows) -> None:
        """Finds the waves of all updates of a run.

        Args:
            network: The network.
            timeline: The timeline of the run.
            held: The places of held rows.

        Raises:
            ValueError: Where an event cannot be carried out in compiled code.
        """
        if alone := [step.name for step in network.steps if step.together is None]:
            raise ValueError(
                f"the step {alone[0]} does not say how it is carried out together: give its NodeStep "
                'together="map", or take executor loop or ray'
            )
        self._network, self._held, self._widest = network, held, int(timeline.sizes.max(initial=0))
        # the kind of the nodes whose last messages a step reads
        self._shown: dict[int, str] = {}
        found: dict[Any, list[Wave]] = {}
        orders: list[tuple[int, ...]] = []
        self.kind_of, jobs = np.empty(timeline.steps, int), []
        for since in range(0, timeline.steps, AT_ONCE):
            parts = self._parts(since, min(since + AT_ONCE, timeline.steps))
            self._find_shown(parts, since)
            for form in self._forms(parts):
                waves = [self._wave(parts, form, number) for number in range(len(form.waves))]
                if form.waves not in found:
                    orders.append(tuple(np.argsort(np.concatenate(form.places, axis=1)[0]).tolist()))
                before = found.setdefault(form.waves, waves)
                found[form.waves] = [one.merged(other) for one, other in zip(before, waves, strict=True)]
                self.kind_of[since + form.updates] = list(found).index(form.waves)
            _, update, size = _runs(parts)
            jobs.append(np.stack([update + since, size]))
        self.jobs = np.concatenate(jobs, axis=1)
        widths = _widths(self.jobs[1])
        self._cuts = {size: _cut(size, widths) for size in np.unique(self.jobs[1]).tolist()}
        self.kinds = tuple(
            UpdateKind(self._groups(kind) if held.most else None, tuple(waves), order)
            for kind, (waves, order) in enumerate(zip(found.values(), orders, strict=True))
        )

    def events(self, since: int, until: int) -> tuple[GroupEvents | None, tuple[WaveEvents, ...]]:
        """The numbers in the events of updates of one kind.

        Args:
            since: The first update.
            until: The update after the last one.

        Returns:
            Those of the groups and of each wave.
        """
        parts, kind = self._parts(since, until), self.kinds[self.kind_of[since]]
        (form,) = self._forms(parts)
        waves = (self._events_of(parts, form, number, wave) for number, wave in enumerate(kind.waves))
        return kind.groups and self._in_groups(parts, kind.groups), tuple(waves)

    def _parts(self, since: int, until: int) -> _Parts:
        network, block = self._network, self._network.table.events(since, until)
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
        grouped = (block.row >= 0) & (self._held.most > 0)
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
                return _Parts(block, update, grouped, level, np.diff(block.first) - shows, shows, place)
            level = found

    def _find_shown(self, parts: _Parts, since: int) -> None:
        block, network = parts.block, self._network
        for step in np.unique(block.step[parts.shows > 0]).tolist():
            if step not in self._shown:
                e = int(np.argmax((parts.shows > 0) & (block.step == step)))
                kept = network.table.kept(since + int(parts.update[e]))
                (kind, _), _ = kept[int(block.source[block.first[e + 1] - 1])]
                self._shown[step] = kind

    def _forms(self, parts: _Parts) -> Iterator[_Form]:
        block = parts.block
        pads = np.array([step.pads for step in self._network.steps])[block.step]
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
            yield _Form(of_kind, mine, places, self._reads(parts, of_kind, places))

    def _reads(self, parts: _Parts, waves: Sequence[Any], places: Sequence[np.ndarray]) -> list[_Reads]:
        block, steps, found = parts.block, self._network.steps, []
        wave_of, inside_of = np.full(len(parts.update), -1), np.zeros(len(parts.update), int)
        for number, (mine, (step, rows, *_, width)) in enumerate(zip(places, waves, strict=True)):
            k = self._widest if rows < 0 else rows
            there = np.arange(k) < parts.rows[mine][..., None]
            at = np.where(there, block.first[mine][..., None] + np.arange(k), 0)
            source, job = np.where(there, parts.place[at], 0), block.job[at]
            held = there & (job >= 0) & (self._held.most > 0)
            source = np.where(held, 0, source)
            inside = np.where(held, self._held.slots[job], inside_of[source] + np.maximum(block.port[at], 0))
            reads = _Reads(there, at, np.where(held | ~there, -1, wave_of[source]), np.where(there, inside, 0))
            for earlier, (other, as_many, *_) in enumerate(waves[:number]):
                if steps[other].forges and as_many == rows:
                    reads = _through_forging(reads, found[earlier], earlier)
            found.append(reads)
            wave_of[mine], inside_of[mine] = number, np.arange(width) * (k if steps[step].forges else 1)
        return found

    def _wave(self, parts: _Parts, form: _Form, number: int) -> Wave:
        block, network, mine, reads = parts.block, self._network, form.places[number], form.reads[number]
        step, _, seen, shows, width = form.waves[number]
        shown = block.sender[block.first[mine + 1] - 1] if shows else np.zeros_like(mine)
        whole = width == network.nodes[network.steps[step].kind] and (block.node[mine] == np.arange(width)).all()
        return Wave(
            step,
            width,
            reads.there.shape[2],
            seen,
            self._shown[step] if shows else "",
            shared=bool((shown == shown[:, :1]).all()),
            whole=bool(whole),
            reads=tuple(np.unique(reads.wave).tolist()),
            direct=self._is_direct(form, number),
            padded=not bool(reads.there.all()),
            leaves=bool(np.isin(mine, block.gone[:, 0]).any()),
        )

    def _is_direct(self, form: _Form, number: int) -> bool:
        reads = form.reads[number]
        if not reads.wave.size or (wave := int(reads.wave[0, 0, 0])) < 0:
            return False
        step, rows, *_, width = form.waves[wave]
        forges = self._network.steps[step].forges
        count = width * (form.reads[wave].there.shape[2] if forges else 1)
        same = reads.inside.reshape(len(reads.inside), -1).shape[1] == count and (reads.wave == wave).all()
        whole = same and (reads.inside.reshape(-1, count) == np.arange(count)).all()
        # forged messages are filled up as the rows before
        return bool(whole and (reads.there.all() or (forges and rows < 0)))

    def _events_of(self, parts: _Parts, form: _Form, number: int, wave: Wave) -> WaveEvents:
        block, mine, reads = parts.block, form.places[number], form.reads[number]
        at, there = reads.at, reads.there
        last = block.first[mine + 1] - 1
        if wave.shown:
            at = np.concatenate([at, last[..., None]], axis=2)
            there = np.concatenate([there, np.ones((*mine.shape, 1), bool)], axis=2)
        chosen = gone = None
        if wave.rows and not wave.direct:
            offset = np.zeros(len(form.waves) + 1, int)
            for before, each in pairwise(wave.reads):
                offset[each] = offset[before] + self._count(form, before)
            chosen = offset[reads.wave] + reads.inside
        if wave.leaves:
            gone = np.zeros((len(mine), self._network.nodes["worker"]), np.int32)
            place, worker = block.gone[np.isin(block.gone[:, 0], mine)].T
            gone[parts.update[place], worker] = 1
        return WaveEvents(
            block.node[mine],
            block.turn[mine],
            np.where(there, block.sender[at], -1),
            np.where(there, block.version[at], 0),
            block.sender[last] if wave.shown else np.zeros_like(mine),
            chosen,
            gone,
        )

    def _count(self, form: _Form, wave: int) -> int:
        """The number of rows of a wave's messages; of -1, of those that are held."""
        if wave < 0:
            return self._network.nodes["worker"] * self._held.most
        forges = self._network.steps[form.waves[wave][0]].forges
        return form.waves[wave][-1] * (form.reads[wave].there.shape[2] if forges else 1)

    def _groups(self, kind: int) -> Groups:
        (step,) = (i for i, step in enumerate(self._network.steps) if step.name == WORK)
        updates, sizes = self.jobs[:, self.kind_of[self.jobs[0]] == kind]
        cuts = [self._cuts[size] for size in sizes.tolist()]
        often = np.bincount(updates, minlength=len(self.kind_of))[self.kind_of == kind]
        widths = tuple(sorted({width for cut in cuts for width in cut})) or (1,)
        return Groups(step, widths, bool((often == 1).all()) and all(len(cut) == 1 for cut in cuts), self._shown[step])

    def _in_groups(self, parts: _Parts, groups: Groups) -> GroupEvents:
        block = parts.block
        mine, update, size = _runs(parts)
        cuts = [self._cuts[each] for each in size.tolist()]
        widths = np.array([width for cut in cuts for width in cut], int)
        ends = np.cumsum(np.bincount(update, [len(cut) for cut in cuts], len(block.bounds) - 1)).astype(int)
        shown = np.zeros(len(ends), int)
        shown[parts.update[mine]] = block.sender[block.first[mine]]
        return GroupEvents(
            bounds=np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1),
            begins=np.cumsum(widths) - widths,
            widths=np.searchsorted(groups.widths, widths),
            nodes=block.node[mine],
            turns=block.turn[mine],
            versions=block.version[block.first[mine]],
            slots=self._held.slots[block.row[mine]],
            shown=shown,
        )


def _runs(parts: _Parts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _through_forging(reads: _Reads, forging: _Reads, wave: int) -> _Reads:
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
    if reads.there.shape[1] == forging.there.shape[1] == 1:
        which[:] = 0
    if (which < 0).any():
        return reads
    inside = which[..., None] * k + np.arange(k)
    given = [np.take_along_axis(each, which[..., None], axis=1) for each in (forging.wave, forging.inside)]
    same = np.where(forged, reads.inside == inside, (reads.wave == given[0]) & (reads.inside == given[1]))
    return reads._replace(wave=np.full_like(reads.wave, wave), inside=inside) if (same | ~reads.there).all() else reads


def _widths(sizes: np.ndarray) -> list[int]:
    """The numbers of jobs that are carried out at once: runs are put together from them."""
    found = np.unique(sizes).tolist()
    # each width is compiled
    return found if len(found) <= 2 else [*(4**i for i in range(found[-1].bit_length()) if 4**i < found[-1]), found[-1]]


def _cut(size: int, widths: Sequence[int]) -> list[int]:
    """A run in groups of these widths, the widest first."""
    cut = []
    while size:
        cut.append(max(width for width in widths if width <= size))
        size -= cut[-1]
    return cut
