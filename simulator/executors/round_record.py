"""The record of a race of several kinds of node: who took which step when, and what of it makes a timeline."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from byzax.simulator.events import Node
from byzax.simulator.rounds import Rounds, no_times, timeline_of, why_none
from byzax.simulator.timeline import Outcome, RoundTimes, Timeline, truncate


class Turn(NamedTuple):
    """A step of a node in a round.

    Attributes:
        step: The step, as its place in `Rounds.steps`.
        round: The round, from 0.
        node: The node, among those of the step's kind.
    """

    step: int
    round: int
    node: int


class RaceRecord:
    """The turns of a race, as they happen.

    Attributes:
        rounds: The steps of a round.
        steps: Number of rounds.
        ended: Number of rounds that are over.
        stopped: The reason why the race ends before its last round; empty where it does not.
        lost: The nodes that died unplanned, each with the first round in which nothing came of it.
    """

    def __init__(self, rounds: Rounds, steps: int) -> None:
        """Begins with nothing.

        Args:
            rounds: The steps of a round.
            steps: Number of rounds.
        """
        self.rounds, self.steps = rounds, steps
        self.ended, self.stopped, self.lost = 0, "", dict[Node, int]()
        self._times = [no_times(step, steps) for step in rounds.steps]
        (self._job,) = (number for number, step in enumerate(rounds.steps) if step.works)
        (self._ends,) = (number for number, step in enumerate(rounds.steps) if step.name == rounds.ends)
        n = len(rounds.steps[self._job].senders)
        self._begun_s, self._arrived_s = np.full((2, steps, n), np.inf)
        # jobs whose row arrives nowhere else than it has arrived
        self._vanished = np.zeros((steps, n), bool)
        self._time_s = np.full(steps, np.inf)
        self._touched = 0
        # how many messages were there for each turn
        self._got = [np.zeros((steps, len(step.senders)), int) for step in rounds.steps]

    def begin(self, turn: Turn, heard: Sequence[int], at_s: float) -> None:
        """A turn begins at a second and reads the messages at these places."""
        times = self._times[turn.step]
        times.begin_s[turn.round, turn.node] = at_s
        times.taken[turn.round, turn.node, list(heard)] = True
        if turn.step == self._job:
            self._begun_s[turn.round, turn.node] = at_s
        self._touched = max(self._touched, turn.round + 1)

    def end(self, turn: Turn, at_s: float) -> None:
        """A turn ends."""
        self._times[turn.step].end_s[turn.round, turn.node] = at_s

    def arrive(self, turn: Turn, reader: Turn, at_s: float) -> None:
        """The message of a turn is there for another one."""
        self._got[reader.step][reader.round, reader.node] += 1
        if turn.step == self._job:
            self._arrived_s[turn.round, turn.node] = min(self._arrived_s[turn.round, turn.node], at_s)

    def vanish(self, turn: Turn) -> None:
        """Nothing will come of a turn."""
        if turn.step == self._job:
            self._vanished[turn.round, turn.node] = True

    def lose(self, node: Node, turn: Turn) -> None:
        """A node died unplanned, whose next turn is this one."""
        of_kind = [number for number, step in enumerate(self.rounds.steps) if step.kind == node[0]]
        works = self.rounds.steps[of_kind[0]].works
        self.lost.setdefault(node, turn.round + (works and turn.step != self._job))

    def begun(self, turn: Turn) -> float:
        """The second at which a turn began."""
        return float(self._times[turn.step].begin_s[turn.round, turn.node])

    def ended_s(self, turn: Turn) -> float:
        """The second at which a turn ended; infinite where it did not."""
        return float(self._times[turn.step].end_s[turn.round, turn.node])

    def is_done(self, turn: Turn) -> bool:
        """Tells whether a turn has ended."""
        return bool(np.isfinite(self.ended_s(turn)))

    def close_rounds(self, is_ahead: Callable[[Turn], bool]) -> bool:
        """Ends the rounds of which nothing is to be waited for any more.

        Args:
            is_ahead: Tells whether a node may still take a turn.

        Returns:
            Whether the race is over.
        """
        while self.ended < self.steps:
            turns = [Turn(self._ends, self.ended, node) for node in self.rounds.honest]
            if any(not self.is_done(turn) and is_ahead(turn) for turn in turns):
                return False
            ends = [end_s for turn in turns if np.isfinite(end_s := self.ended_s(turn))]
            if not ends:
                names = [step.name for step in self.rounds.steps]
                last = slice(max(self.ended - 1, 0), self.ended + 1)
                got = {name: list(each[last]) for name, each in zip(names, self._got, strict=True)}
                self.stopped = why_none(self.rounds, {each.step: each for each in self._times}, got, self.ended)
                return True
            before = self._time_s[self.ended - 1] if self.ended else 0.0
            self._time_s[self.ended] = max(before, *ends)
            self.ended += 1
        return True

    def timeline(self) -> Timeline:
        """The timeline of the rounds that are over."""
        until, job = self._touched, self.rounds.steps[self._job]
        times = tuple(_ended(each.until(until)) for each in self._times)
        begun, arrived = self._begun_s[:until], self._arrived_s[:until]
        nobody = np.full_like(begun, np.inf)
        whole = timeline_of(self.rounds, job, times, begun, arrived, nobody, self._time_s[:until].copy(), "")
        # whose row is under way is not lost
        where = whole.unused.handed, whole.unused.workers
        under_way = np.isnan(whole.unused.arrived_s) & ~self._vanished[where]
        outcomes = np.where(under_way, Outcome.UNFINISHED, whole.outcomes).astype(np.int8)
        found = truncate(whole._replace(outcomes=outcomes), self.ended)
        kinds = {"worker": [], "server": []}
        for (kind, number), round_ in self.lost.items():
            kinds.setdefault(kind, []).append((round_, number))
        lost, servers = (np.array(kinds[kind], int).reshape(-1, 2) for kind in ("worker", "server"))
        return found._replace(stopped=self.stopped, lost=lost, lost_servers=servers)


def _ended(times: RoundTimes) -> RoundTimes:
    """A copy of these times, which go on, without what was begun and has not ended."""
    there = np.isfinite(times.end_s)
    begin_s = np.where(there, times.begin_s, np.inf)
    return times._replace(begin_s=begin_s, end_s=times.end_s.copy(), taken=times.taken & there[..., None])
