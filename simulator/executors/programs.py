"""The table of a network as compiled loops need it: which updates are of one kind, and the numbers in their events."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from byzax.simulator.events import Network
from byzax.simulator.executors.event_parts import Parts, kinds_of, parts_of, runs_of
from byzax.simulator.executors.forms import Form, forms_of
from byzax.simulator.executors.unread_jobs import with_few_kinds
from byzax.simulator.executors.wave_lists import Vacancies, vacancies_of, waves_of
from byzax.simulator.executors.waves import (
    LANES,
    Arriving,
    GroupEvents,
    Groups,
    HeldRows,
    UpdateKind,
    Wave,
    WaveEvents,
)
from byzax.simulator.timeline import Timeline

# Updates whose events are looked at together.
AT_ONCE = 256


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
        self._network = network = with_few_kinds(network, timeline, held, AT_ONCE)
        self._held, self._widest = held, int(timeline.sizes.max(initial=0))
        self._kinds = kinds_of(network)
        # step and kind of the nodes whose last messages it reads, of the jobs whose rows are held
        grouped: set[tuple[int, int]] = set()
        found: dict[Any, list[Wave]] = {}
        orders: list[tuple[int, ...]] = []
        self._vacancies = self._find_vacancies(timeline)
        self.kind_of, jobs = np.empty(timeline.steps, int), []
        for since in range(0, timeline.steps, AT_ONCE):
            parts = parts_of(network, since, min(since + AT_ONCE, timeline.steps), held)
            pairs = np.unique((parts.block.step * len(self._kinds) + parts.shows)[parts.grouped & ~parts.left_out])
            grouped |= {divmod(pair, len(self._kinds)) for pair in pairs.tolist()}
            for form in forms_of(network, parts, held, self._widest, self._vacancies):
                waves = [self._wave(parts, form, number) for number in range(len(form.waves))]
                like = form.waves, form.pattern
                if like not in found:
                    orders.append(self._order(form))
                before = found.setdefault(like, waves)
                found[like] = [one.merged(other) for one, other in zip(before, waves, strict=True)]
                self.kind_of[since + form.updates] = list(found).index(like)
            _, (update, size, _) = runs_of(parts)
            jobs.append(np.stack([update + since, size]))
        if len(grouped) > 1:
            names = sorted({network.steps[step].name for step, _ in grouped})
            raise ValueError(
                f"jobs whose rows are kept for later updates are of one step in compiled loops, and read messages of "
                f"one kind of node: got steps {', '.join(names)}: take executor loop or ray"
            )
        self.jobs = np.concatenate(jobs, axis=1)
        widths = _widths(self.jobs[1])
        self._cuts = {size: _cut(size, widths) for size in np.unique(self.jobs[1]).tolist()}
        self.kinds = tuple(
            UpdateKind(self._groups(kind, *grouped) if grouped else None, tuple(waves), order)
            for kind, (waves, order) in enumerate(zip(found.values(), orders, strict=True))
        )

    def events(self, since: int, until: int) -> tuple[GroupEvents | None, Arriving | None, tuple[WaveEvents, ...]]:
        """The numbers in the events of updates of one kind.

        Args:
            since: The first update.
            until: The update after the last one.

        Returns:
            Those of the groups, of new rows that later updates read too, and of each wave.
        """
        kind, parts = self.kinds[self.kind_of[since]], parts_of(self._network, since, until, self._held)
        (form,) = forms_of(self._network, parts, self._held, self._widest, self._vacancies)
        waves = (self._events_of(parts, form, number, wave) for number, wave in enumerate(kind.waves))
        return kind.groups and self._in_groups(parts, kind.groups), _arriving(parts, form, kind.waves), tuple(waves)

    def _find_vacancies(self, timeline: Timeline) -> Vacancies:
        """The nodes that have a place in each wave where some do not take a step that they take in other updates.

        Without these places updates in which other nodes take part would be of kinds of their own, each compiled apart.
        """
        found: Vacancies = {}
        taken = [np.isfinite(times.end_s).mean() for times in timeline.rounds]
        # of pairs nearly all places would be vacant, and what is made at them would be for nothing
        if not taken or min(taken) == 1 or min(taken) < 0.5:
            return found
        for since in range(0, timeline.steps, AT_ONCE):
            parts = parts_of(self._network, since, min(since + AT_ONCE, timeline.steps), self._held)
            found = vacancies_of(waves_of(self._network, parts, self._widest), parts.block, found)
        return found

    def _order(self, form: Form) -> tuple[int, ...]:
        """The places of the events of an update among all of its waves, in the order of the table."""
        if not self._vacancies:
            return tuple(np.argsort(np.concatenate(form.places, axis=1)[0]).tolist())
        # rounds list the nodes of one step after the other
        return tuple(range(sum(places.shape[1] for places in form.places)))

    def _wave(self, parts: Parts, form: Form, number: int) -> Wave:
        block, network, mine, reads = parts.block, self._network, form.places[number], form.reads[number]
        step, _, seen, shows, _, width = form.waves[number]
        lanes = self._lanes(form, number)
        if lanes and (reads.wave >= 0).any() and not any(self._lanes(form, before) for before in range(number)):
            raise ValueError(
                f"the step {network.steps[step].name} reads last rows, of which new ones are forged by a step without "
                "last_rows: give its NodeStep last_rows, or take executor loop or ray"
            )
        in_order = np.tile(np.arange(network.nodes.get("worker", 0)), lanes)
        happens, count = mine >= 0, network.nodes[network.steps[step].kind]
        shown = np.where(happens, block.sender[block.first[mine + 1] - 1], 0) if shows >= 0 else np.zeros_like(mine)
        first = int(block.node[mine[0, 0]])
        consecutive = happens.all() and (block.node[mine] == first + np.arange(width)).all()
        return Wave(
            step,
            width,
            reads.there.shape[2],
            seen,
            self._kinds[shows] if shows >= 0 else "",
            shared=bool((shown == shown[:, :1]).all()),
            first=first if consecutive else None,
            reads=() if lanes else tuple(np.unique(reads.wave).tolist()),
            direct=self._is_direct(form, number),
            padded=not bool(reads.there.all()),
            lanes=lanes,
            # of what is written before the end of the update a copy is read, or all would be copied twice
            in_place=bool(
                lanes
                and not network.steps[step].forges
                and reads.at.shape[2] == len(in_order)
                and ((block.sender[reads.at] == in_order) | ~reads.there).all()
            ),
            vacant=0 if happens.all() else count,
        )

    def _lanes(self, form: Form, number: int) -> int:
        return LANES[self._network.steps[form.waves[number][0]].last_rows]

    def _is_direct(self, form: Form, number: int) -> bool:
        reads = form.reads[number]
        if self._lanes(form, number) or not reads.wave.size or reads.wave.min() < 0:
            return False
        waves = np.unique(reads.wave).tolist()
        count = sum(self._count(form, wave) for wave in waves)
        chosen = self._chosen(form, number, waves).reshape(len(reads.wave), -1)
        if chosen.shape[1] != count or (chosen != np.arange(count)).any():
            return False
        # forged messages are filled up as the rows before
        step, rows, *_ = form.waves[waves[0]]
        return bool(reads.there.all()) or (len(waves) == 1 and rows < 0 and self._network.steps[step].forges)

    def _chosen(self, form: Form, number: int, waves: Sequence[int]) -> np.ndarray:
        """The places of the rows that a wave reads among those of the messages of `waves`, one after the other."""
        reads, offset = form.reads[number], np.zeros(len(form.waves) + 1, int)
        for before, each in pairwise(waves):
            offset[each] = offset[before] + self._count(form, before)
        return offset[reads.wave] + reads.inside

    def _events_of(self, parts: Parts, form: Form, number: int, wave: Wave) -> WaveEvents:
        block, mine, reads = parts.block, form.places[number], form.reads[number]
        at, there = reads.at, reads.there
        happens, last = mine >= 0, block.first[mine + 1] - 1
        if wave.shown:
            at = np.concatenate([at, last[..., None]], axis=2)
            there = np.concatenate([there, happens[..., None]], axis=2)
        chosen = lags = new = None
        if wave.lanes:
            lags, new = np.where(there, block.lag[at], -1), reads.new
        elif wave.rows and not wave.direct:
            assert np.isin(reads.wave, wave.reads).all()
            chosen = self._chosen(form, number, wave.reads)
        return WaveEvents(
            np.where(happens, block.node[mine], wave.vacant),
            np.where(happens, block.turn[mine], 0),
            np.where(there, block.sender[at], -1),
            np.where(there, block.version[at], 0),
            np.where(happens, block.sender[last], 0) if wave.shown else np.zeros_like(mine),
            chosen,
            lags,
            new,
        )

    def _count(self, form: Form, wave: int) -> int:
        """The number of rows of a wave's messages; of -1, of those that are held."""
        if wave < 0:
            return self._held.num_slots
        forges = self._network.steps[form.waves[wave][0]].forges
        return form.waves[wave][-1] * (form.reads[wave].new.shape[2] if forges else 1)

    def _groups(self, kind: int, job: tuple[int, int]) -> Groups:
        step, shown = job
        updates, sizes = self.jobs[:, self.kind_of[self.jobs[0]] == kind]
        cuts = [self._cuts[size] for size in sizes.tolist()]
        often = np.bincount(updates, minlength=len(self.kind_of))[self.kind_of == kind]
        widths = tuple(sorted({width for cut in cuts for width in cut})) or (1,)
        single = bool((often == 1).all()) and all(len(cut) == 1 for cut in cuts)
        return Groups(step, widths, single, self._kinds[shown])

    def _in_groups(self, parts: Parts, groups: Groups) -> GroupEvents:
        block = parts.block
        mine, (update, size, shown) = runs_of(parts)
        cuts = [self._cuts[length] for length in size.tolist()]
        widths = np.array([width for cut in cuts for width in cut], int)
        each = np.array([len(cut) for cut in cuts], int)
        ends = np.cumsum(np.bincount(update, each, len(block.bounds) - 1)).astype(int)
        return GroupEvents(
            bounds=np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1),
            begins=np.cumsum(widths) - widths,
            widths=np.searchsorted(groups.widths, widths),
            nodes=block.node[mine],
            turns=block.turn[mine],
            versions=block.version[block.first[mine]],
            slots=self._held.slots[block.row[mine]],
            shown=np.repeat(shown, each),
        )


def _arriving(parts: Parts, form: Form, waves: Sequence[Wave]) -> Arriving | None:
    """The new rows of the first events that read last rows; None where there are no such events."""
    for reads, wave in zip(form.reads, waves, strict=True):
        if wave.lanes:
            read = np.take_along_axis(reads.at, reads.new, axis=2)
            return Arriving(parts.block.sender[read][:, 0], reads.inside[:, 0])
    return None


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
