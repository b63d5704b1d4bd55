"""The table of events: what it promises of every plan, and mistakes of planners that its check refuses."""

from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byzax.simulator import events
from byzax.simulator.events import EventTable, Network, NodeStep
from byzax.simulator.topologies.parameter_server import WORK, table_of
from tests.simulator.test_timeline import every_schedule, latencies, made, timings

N, F, STEPS = 7, 2, 25
BYZANTINE = np.arange(N) < F


def nothing(*given):
    raise AssertionError("a check carries out no event")


def network(table: EventTable) -> Network:
    """A network with a table, of which no event can be carried out."""
    steps = tuple(NodeStep(name, kind, nothing, forges=name == "forge") for name, kind in WORDS)
    nodes = {"server": 1, "adversary": 1, "worker": N}
    return Network(steps, nodes, table, *[nothing] * 6)


WORDS = [("work", "worker"), ("forge", "adversary"), ("update", "server")]


def check(table: EventTable, steps: int = STEPS, at_once: int = 256) -> None:
    events.check(network(table), steps, lambda update: BYZANTINE, at_once)


def forged(steps):
    return np.broadcast_to(BYZANTINE, (len(steps), N))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(every_schedule, latencies, timings, st.booleans(), st.integers(0, 3))
def test_the_table_of_every_plan_can_be_carried_out(schedule, latency, timing, forging, seed):
    plan = made(schedule, N, STEPS, F, seed=seed, latency=latency, attack={"name": "empire", "timing": timing})
    table = table_of(plan, forged if forging else None)
    check(table, plan.steps)
    whole = table.events(0, plan.steps)
    # all rows of the plan and nothing else, each read by its update
    assert sorted(whole.row[whole.step == WORK].tolist()) == list(range(len(plan.rows.jobs)))
    assert len(whole.step) == len(plan.rows.jobs) + (1 + forging) * plan.steps
    for place in range(len(plan.rows.jobs)):
        number, last = table.number_of(place)
        assert whole.row[number - whole.begin] == place
        assert last - whole.begin == whole.bounds[plan.updates[place] + 1] - 1


@settings(max_examples=20, deadline=None)
@given(every_schedule, st.integers(1, 9))
def test_the_parts_of_a_table_are_those_of_the_whole(schedule, at_once):
    plan = made(schedule, N, STEPS, F, latency="exponential")
    table = table_of(plan, forged)
    whole = table.events(0, plan.steps)
    for since in range(0, plan.steps, at_once):
        part = table.events(since, min(since + at_once, plan.steps))
        mine = slice(part.begin - whole.begin, part.begin - whole.begin + len(part.step))
        for name in ("step", "node", "turn", "row", "seen", "begin_s", "end_s", "arrive_s", "last"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[mine])
        reads = slice(whole.first[mine.start], whole.first[mine.stop])
        for name in ("source", "port", "sender", "version", "job"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[reads])
    check(table, plan.steps, at_once)


PLAN = partial(made, {"name": "asynchronous", "apply": "buffer", "rows": 4}, N, STEPS, F, latency="exponential")


def changed(change):
    """The table of a plan, with a change to the events of update 10."""
    table = table_of(PLAN(), forged)

    def mistaken(since, until):
        part = table.events(since, until)
        if not since <= 10 < until:
            return part
        part = part._replace(**{name: np.array(each) for name, each in part._asdict().items() if name != "begin"})
        update = int(part.bounds[11 - since]) - 1
        change(part, update, slice(int(part.first[update]), int(part.first[update + 1])))
        return part

    return table._replace(events=mistaken)


def honest(part, inbox):
    """Places of the honest rows among those that an update reads."""
    return inbox.start + np.flatnonzero(part.port[inbox] < 0)


def a_row_of_the_future(part, update, inbox):
    later = np.flatnonzero((part.step == WORK) & (np.arange(len(part.step)) > update))
    part.source[honest(part, inbox)[0]] = part.begin + later[-1]


def the_same_row_twice(part, update, inbox):
    one, other, *_ = honest(part, inbox)
    part.source[one], part.sender[one] = part.source[other], part.sender[other]


def a_row_that_counts_as_one_of_another_worker(part, update, inbox):
    one, other, *_ = honest(part, inbox)
    part.sender[one] = part.sender[other]


def another_row_of_the_same_worker(part, update, inbox):
    one, other, *_ = honest(part, inbox)
    number = part.source[other] - part.begin
    part.node[number] = part.node[part.source[one] - part.begin]
    part.sender[part.source == part.source[other]] = part.node[number]


def a_forged_row_of_an_honest_worker(part, update, inbox):
    place = honest(part, inbox)[0]
    part.source[place], part.port[place] = part.begin + update - 1, place - inbox.start


def a_row_that_has_not_arrived(part, update, inbox):
    part.arrive_s[part.source[honest(part, inbox)[0]] - part.begin] += 1e6


def a_row_that_is_forgotten(part, update, inbox):
    number = part.source[honest(part, inbox)[0]] - part.begin
    part.last[number] = number + part.begin


def a_job_out_of_turn(part, update, inbox):
    number = part.source[honest(part, inbox)[0]] - part.begin
    later = np.flatnonzero((part.step == WORK) & (part.node == part.node[number]) & (part.turn > part.turn[number]))
    part.turn[number] = part.turn[later[0]]


def two_jobs_at_once(part, update, inbox):
    number = part.source[honest(part, inbox)[0]] - part.begin
    part.begin_s[number] = 0.0


def a_model_that_is_not_the_last_one(part, update, inbox):
    """The second job of the next update reads the model before."""
    later = np.flatnonzero((part.step == WORK) & (np.arange(len(part.step)) > update))[0]
    forging = update - 1
    part.source[part.first[later]] = part.source[part.first[forging + 1] - 1]
    part.last[:] = part.last.max()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (a_model_that_is_not_the_last_one, "is not the last one of its node|after its last reader|is forgotten"),
        (a_row_of_the_future, "was not sent or is forgotten"),
        (the_same_row_twice, "two messages of one sender"),
        (a_row_that_counts_as_one_of_another_worker, r"takes message \d+ of \d for one of \d"),
        (another_row_of_the_same_worker, "two messages of one sender|follows turn"),
        (a_forged_row_of_an_honest_worker, "forged message of worker [2-6], which is honest"),
        (a_row_that_has_not_arrived, "before it arrived"),
        (a_row_that_is_forgotten, "after its last reader|is forgotten"),
        (a_job_out_of_turn, "follows turn"),
        (two_jobs_at_once, "before its node is free"),
    ],
)
def test_a_mistake_of_a_planner_is_named_with_its_event(change, words):
    with pytest.raises(ValueError, match=rf"^event \d+, \w+ \d+ of \w+ \d+, in update \d+: .*({words})"):
        check(changed(change))


def test_a_table_without_a_mistake_is_accepted():
    check(changed(lambda part, update, inbox: None))
