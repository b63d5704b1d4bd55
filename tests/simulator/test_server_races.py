"""Races of several servers: whose turn it is, real actors that are slow or killed, and replays to the same bits."""

import heapq
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byzax.simulator.executors.base import plan
from byzax.simulator.executors.round_racing import News, RoundCrew, race_rounds
from byzax.simulator.parts import message_bits, topology
from byzax.simulator.timeline import check
from tests.simulator.test_replicas import CASES, DELAYS, scenario_of


class Machines:
    """Machines without haste: a turn takes no time, and a message has no way but that of `latency`."""

    def __init__(self, kills=()):
        """Takes the seconds at which nodes die, with these."""
        self.now, self.begun, self.left = 0.0, [], []
        self._order, self._news = itertools.count(), []
        for second, nodes in kills:
            self._put(second, News(second, "died", nodes=tuple(nodes)))

    def crew(self):
        return RoundCrew(
            begin=lambda turn, heard: (self.begun.append((turn, tuple(heard))), self._put(self.now, News(self.now, "done", turn))),
            send=lambda turn, readers: readers and self._put(self.now, News(self.now, "there", turn, tuple(readers))),
            pass_by=lambda turn: None,
            take_back=lambda turn: None,
            leave=lambda node, round_: self.left.append((node, round_)),
            news=self._wait,
            clock=lambda: self.now,
        )  # fmt: skip

    def _put(self, second, news):
        heapq.heappush(self._news, (second, next(self._order), news))

    def _wait(self, timeout_s):
        until = self.now + timeout_s
        self.now = min(until, max(self.now, self._news[0][0])) if self._news else until
        found = []
        while self._news and self._news[0][0] <= self.now:
            found.append(heapq.heappop(self._news)[2])
        return found


def raced(study, machines, latency=None):
    run = study.run
    described = topology(run).rounds(run)
    race = race_rounds(described, run.steps, latency or run.latency, run.seed, message_bits(run), machines.crew())
    for _ in range(1_000_000):
        try:
            next(race)
        except StopIteration as end:
            return end.value
    raise AssertionError("the race does not end")


@pytest.mark.parametrize("name", CASES)
def test_a_race_of_machines_without_haste_is_the_plan(name):
    study = scenario_of(name, steps=20)
    made, planned = raced(study, Machines()), plan(study.run)
    check(made, 10)
    for one, other in zip(made.rounds, planned.rounds, strict=True):
        # of the last rounds the plan has what nobody waits for any more
        done = np.isfinite(one.end_s)
        np.testing.assert_array_equal(one.taken[done], other.taken[done])
        np.testing.assert_allclose(one.end_s[done], other.end_s[done], atol=1e-9)
        assert done[:-2].all()
    np.testing.assert_allclose(made.time_s, planned.time_s, atol=1e-9)
