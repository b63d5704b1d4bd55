"""The table of events: what it promises of every plan, and mistakes of planners that its check refuses."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byzax.simulator import event_contract
from byzax.simulator.events import EventTable, Network, NodeStep
from byzax.simulator.server_table import FORGE, UNREAD, UPDATE, WORK, LastRows, table_of
from tests.simulator.test_timeline import every_schedule, latencies, made, timings

N, F, STEPS = 7, 2, 25
BYZANTINE = np.arange(N) < F


NEW_ALONE, TABLE = LastRows(), LastRows(update=True, forging=True)


def nothing(*given):
    raise AssertionError("a check carries out no event")


def network(table: EventTable, last_rows: LastRows) -> Network:
    """A network with a table, of which no event can be carried out."""
    kept = [None, None, ("both" if last_rows.computed else "sent") if last_rows.forging else None]
    kept.append("sent" if last_rows.update else None)
    steps = tuple(
        NodeStep(name, kind, nothing, forges=name == "forge", last_rows=each, unread=name == "unread")
        for (name, kind), each in zip(WORDS, kept, strict=True)
    )
    nodes = {"server": 1, "adversary": 1, "worker": N}
    return Network(steps, nodes, table, *[nothing] * 6)


WORDS = [("unread", "worker"), ("work", "worker"), ("forge", "adversary"), ("update", "server")]


def check(table: EventTable, steps: int = STEPS, at_once: int = 256, last_rows: LastRows = NEW_ALONE) -> None:
    event_contract.check(network(table, last_rows), steps, lambda update: BYZANTINE, at_once)


def forged(steps):
    return np.broadcast_to(BYZANTINE, (len(steps), N))


# a table whose attackers see all rows, one whose rows are hidden from some, rows one by one, and no forging
READ = st.sampled_from(
    [NEW_ALONE, TABLE, LastRows(True, True, True), LastRows(False, True), LastRows(False, True, True), LastRows(True)]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(every_schedule, latencies, timings, st.booleans(), READ, st.booleans(), st.integers(0, 3))
def test_the_table_of_every_plan_can_be_carried_out(schedule, latency, timing, forging, last_rows, unread, seed):
    plan = made(schedule, N, STEPS, F, seed=seed, latency=latency, attack={"name": "empire", "timing": timing})
    forging |= last_rows.forging
    unread &= forging
    table = table_of(plan, forged if forging else None, last_rows, forged if unread else None)
    check(table, plan.steps, last_rows=last_rows)
    whole = table.events(0, plan.steps)
    # all rows of the plan and nothing else, each read by its update
    assert sorted(whole.row[whole.step <= WORK].tolist()) == list(range(len(plan.rows.jobs)))
    # Byzantine workers do no job where nobody reads its row
    assert (BYZANTINE[whole.node[whole.step == UNREAD]]).all()
    assert (whole.step == UNREAD).any() == (unread and BYZANTINE[plan.rows.workers].any())
    assert not unread or not BYZANTINE[whole.node[whole.step == WORK]].any()
    assert len(whole.step) == len(plan.rows.jobs) + (1 + forging) * plan.steps
    # every message is kept until its last reader, and no longer; the last model has none
    reader, number = np.repeat(np.arange(len(whole.step)), np.diff(whole.first)), whole.source - whole.begin
    last = np.arange(len(whole.step))
    np.maximum.at(last, number[number >= 0], reader[number >= 0])
    np.testing.assert_array_equal((whole.last - whole.begin)[:-1], last[:-1])


@settings(max_examples=15, deadline=None)
@given(every_schedule, latencies, READ, st.integers(0, STEPS))
def test_the_rows_that_are_kept_for_later_updates_are_those_that_these_read(schedule, latency, last_rows, step):
    plan = made(schedule, N, STEPS, F, latency=latency)
    step = min(step, plan.steps)
    table = table_of(plan, forged if last_rows.forging else None, last_rows)
    whole, kept = table.events(0, plan.steps), table.rows(step)
    begun = whole.bounds[step]
    later = (np.arange(len(whole.source)) >= whole.first[begun]) & (whole.source < whole.begin + begun)
    rows = later & ((whole.job >= 0) | (whole.port >= 0))
    read = {*zip(whole.source[rows].tolist(), whole.port[rows].tolist(), strict=True)}
    assert len(kept.places) == len(read)
    assert {*zip(kept.source.tolist(), kept.port.tolist(), strict=True)} == read
    assert (np.diff(kept.places) > 0).all()
    readers = np.repeat(np.arange(len(whole.step)), np.diff(whole.first)) + whole.begin
    for place, source, port, last in zip(*map(np.ndarray.tolist, kept), strict=True):
        job = place if place >= 0 else -1 - place
        assert (port >= 0) == (place < 0)
        assert last == readers[(whole.source == source) & (whole.port == port)].max()
        if port < 0:
            assert whole.row[source - whole.begin] == job
        else:
            forging = source - whole.begin
            assert whole.turn[forging] == plan.updates[job]
            new = np.arange(whole.first[forging], whole.first[forging + 1])
            assert whole.job[new[whole.lag[new] == 0][port]] == job


@settings(max_examples=20, deadline=None)
@given(every_schedule, st.integers(1, 9), st.sampled_from([NEW_ALONE, LastRows(True, True, True)]))
def test_the_parts_of_a_table_are_those_of_the_whole(schedule, at_once, last_rows):
    plan = made(schedule, N, STEPS, F, latency="exponential")
    table = table_of(plan, forged, last_rows)
    whole = table.events(0, plan.steps)
    for since in range(0, plan.steps, at_once):
        part = table.events(since, min(since + at_once, plan.steps))
        mine = slice(part.begin - whole.begin, part.begin - whole.begin + len(part.step))
        for name in ("step", "node", "turn", "row", "seen", "begin_s", "end_s", "arrive_s", "last"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[mine])
        reads = slice(whole.first[mine.start], whole.first[mine.stop])
        for name in ("source", "port", "sender", "version", "job", "lag"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[reads])
    check(table, plan.steps, at_once, last_rows)


BUFFER, LAST = {"name": "asynchronous", "apply": "buffer", "rows": 4}, "asynchronous"


def changed(change, schedule=BUFFER, last_rows=NEW_ALONE):
    """The table of a plan, with a change to the events of update 10."""
    table = table_of(made(schedule, N, STEPS, F, latency="exponential"), forged, last_rows)

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
    part.last[update - 1] = part.begin + update


def a_row_that_was_never_computed(part, update, inbox):
    part.step[part.source[honest(part, inbox)[0]] - part.begin] = UNREAD


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
        (a_row_that_was_never_computed, "only holds the place of a row"),
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


def late(part, inbox, forged=True):
    """Places of rows of earlier updates among those that an update reads: of forged ones, or of honest workers."""
    found = inbox.start + np.flatnonzero((part.lag[inbox] > 0) & ((part.port[inbox] >= 0) == forged))
    assert found.size
    return found


def kept_for_ever(part):
    part.last[:] = part.begin + len(part.last)


def an_older_row_of_a_worker(part, update, inbox):
    place = late(part, inbox, forged=False)[0]
    mine = np.flatnonzero((part.step == WORK) & (part.node == part.sender[place]))
    part.source[place] = part.begin + mine[mine < part.source[place] - part.begin][-1]
    kept_for_ever(part)


def a_row_that_was_computed_and_not_the_one_that_was_sent(part, update, inbox):
    place = late(part, inbox)[0]
    forging = part.source[place] - part.begin
    new = np.arange(part.first[forging], part.first[forging + 1])
    new = new[(part.lag[new] == 0) & (part.sender[new] == part.sender[place])][0]
    part.source[place], part.port[place], part.job[place] = part.source[new], -1, part.job[new]
    kept_for_ever(part)


def a_forged_row_of_an_older_update(part, update, inbox):
    place = late(part, inbox)[0]
    same = np.flatnonzero((part.port >= 0) & (part.sender == part.sender[place]) & (part.source < part.source[place]))
    part.source[place], part.port[place] = part.source[same[-1]], part.port[same[-1]]
    kept_for_ever(part)


def a_row_that_a_forged_message_does_not_have(part, update, inbox):
    part.port[late(part, inbox)[0]] += N


def a_row_said_to_be_of_another_update(part, update, inbox):
    part.lag[late(part, inbox, forged=False)[0]] += 1


def a_row_said_to_be_new(part, update, inbox):
    """Both rows of a worker that sends one in this update."""
    new, old = inbox.start + np.flatnonzero(part.lag[inbox] == 0)[0], late(part, inbox, forged=False)[0]
    part.source[old], part.sender[old], part.lag[old] = part.source[new], part.sender[new], 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (an_older_row_of_a_worker, "is not the last row of its sender"),
        (a_row_that_was_computed_and_not_the_one_that_was_sent, "is not the last row of its sender"),
        (a_forged_row_of_an_older_update, "is not the last row of its sender"),
        (a_row_that_a_forged_message_does_not_have, r"reads row \d+ of message \d+, of \d+ forged"),
        (a_row_said_to_be_of_another_update, "is not the last row of its sender"),
        (a_row_said_to_be_new, r"two messages of one sender"),
    ],
)
@pytest.mark.parametrize("last_rows", [TABLE, LastRows(True, True, True)])
def test_a_mistake_in_rows_of_earlier_updates_is_named_with_its_event(change, words, last_rows):
    check(changed(lambda part, update, inbox: None, LAST, last_rows), last_rows=last_rows)
    with pytest.raises(ValueError, match=rf"^event \d+, update 10 of server 0, in update 10: .*({words})"):
        check(changed(change, LAST, last_rows), last_rows=last_rows)


def test_rows_of_earlier_updates_are_read_by_steps_that_say_so():
    with pytest.raises(ValueError, match=r"^event \d+, forge \d+ of adversary 0, .* is not the last row of its sender"):
        check(changed(lambda part, update, inbox: None, LAST, TABLE), last_rows=LastRows(update=True))


def test_attackers_that_do_not_see_all_rows_read_their_own_as_they_were_computed():
    plan = made(LAST, N, STEPS, F, latency="exponential")
    whole = table_of(plan, forged, LastRows(True, True, True)).events(0, plan.steps)
    for forging in np.flatnonzero(whole.step == FORGE).tolist():
        inbox = np.arange(whole.first[forging], whole.first[forging + 1] - 1)
        sent, computed = np.split(inbox, 2)
        np.testing.assert_array_equal(whole.sender[sent], whole.sender[computed])
        assert (np.diff(whole.sender[sent]) > 0).all()
        assert (whole.job[computed] >= 0).all()
        # what was sent in their place
        np.testing.assert_array_equal(whole.port[sent] >= 0, BYZANTINE[whole.sender[sent]] & (whole.lag[sent] > 0))
    assert (whole.sender[whole.first[np.flatnonzero(whole.step == UPDATE)]] == 0).all()
