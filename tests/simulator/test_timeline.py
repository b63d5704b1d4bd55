"""Timelines: what can happen and what cannot, and what every schedule promises of those it makes."""

import itertools
import re
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from byzax.simulator import schedules, stopping
from byzax.simulator.book import ByzantineSenders, open_book, over
from byzax.simulator.byzantine_timing import timing as timing_of
from byzax.simulator.durations import MessageBits, build_draws
from byzax.simulator.executors.base import fixed_byzantine_workers, plan, situation
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.parts import f_of_rule
from byzax.simulator.planning import in_step, planned
from byzax.simulator.schedules.sampled import likely_bound
from byzax.simulator.timeline import Outcome, Timeline, check, timeline
from byzax.simulator.timeline_files import load, save
from byzax.simulator.usage import usage
from byzax.simulator.validation.part_checks import check_parts
from tests.nightly import by_night
from tests.simulator.conftest import at, small


def made(schedule, n=7, steps=30, f=2, byzantine=None, seed=0, least=5, bits=1000, **changes) -> Timeline:
    """The timeline of a schedule by events, whatever shorter way there may be."""
    options = {"name": schedule} if isinstance(schedule, str) else dict(schedule)
    scenario = small(
        workers={"total": n, "byzantine": f if byzantine is None else byzantine, "declared": f}, steps=steps, **changes
    )
    decides = schedules.build(options.pop("name"), n, f, **options)
    first = frozenset(range(scenario.workers.byzantine.count))
    senders = ByzantineSenders(first, timing_of(scenario.run), scenario.attack.timing.label)
    book = open_book(decides, senders, least, situation(at(scenario, seed)))
    return planned(
        book, build_draws(scenario.latency, n, seed, MessageBits(bits, bits, bits)), scenario.latency.crashes
    )


def synchronous(n: int, steps: int) -> Timeline:
    return made("synchronous", n, steps, f=0)


latencies = st.sampled_from(
    [
        "constant",
        "exponential",
        {"name": "lognormal", "sigma": 1.0, "up": {"delay": 0.3}},
        {"name": "pareto", "alpha": 1.5, "stragglers": {"share": 0.3, "burst": 3.0}, "down": {"bandwidth": 1e4}},
        {"name": "exponential", "loss": 0.2, "factors": {"name": "lognormal"}},
        {"name": "lognormal", "crashes": [{"worker": 1, "at": 4.0, "back": 9.0}, {"worker": 3, "at": 6.0}]},
    ]
)
timings = st.sampled_from(
    [
        "honest",
        "first",
        {"name": "late", "age": 3},
        "silent",
        {"name": "chosen", "every": 3},
        {"name": "replay", "age": 4},
    ]
)
asynchronies = st.sampled_from(
    [
        {},
        {"warm_up": "partial"},
        {"apply": "buffer", "rows": 3},
        {"apply": "buffer", "rows": 7},
        {"apply": "each"},
        {"apply": "each", "max_age": 4},
        {"apply": "buffer", "rows": 2, "max_age": 1},
    ]
)
every_schedule = st.one_of(
    st.sampled_from(["all", "n-f", 1]).map(lambda quorum: {"name": "synchronous", "quorum": quorum}),
    st.sampled_from([{"name": "basgd"}, {"name": "basgd", "buckets": 2, "max_age": 2}]),
    st.sampled_from([("uniform", 3), ("samples", 4), ("cyclic", 5)]).map(
        lambda how: {"name": "sampled", "participants": 3, "by": how[0], "asked": how[1]}
    ),
    asynchronies.map(lambda options: {"name": "asynchronous", **options}),
    st.builds(
        lambda options, bound, after: {
            "name": "stale_synchronous", "bound": bound, **options, **({"suspect_after_s": after} if after else {})
        },
        asynchronies, st.integers(1, 4), st.sampled_from([None, None, 2.5, 20.0]),
    ),
    # takes no other option
    st.just({"name": "stale_synchronous", "bound": 0}),
)  # fmt: skip


@pytest.mark.parametrize("examples", [80, by_night(250)])
def test_what_every_timeline_promises(examples):
    drawn = given(every_schedule, latencies, timings, st.integers(0, 3))(keeps_its_promises)
    settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])(drawn)()


def keeps_its_promises(schedule, latency, timing, seed):
    n, steps, f = 7, 25, 2
    plan = made(schedule, n, steps, f, seed=seed, latency=latency, attack={"name": "empire", "timing": timing})
    # no row from the future, none twice, time never goes back, workers distinct, jobs in order: and no gap in them,
    # so that the outcomes counted add up to the jobs started
    check(plan, n)
    assert plan.steps == steps or (plan.stopped and plan.steps < steps)
    counted = usage(plan, n)
    started = np.bincount(np.concatenate([plan.rows.workers, plan.unused.workers]), minlength=n)
    assert (counted.used + counted.dropped + counted.lost + counted.unfinished == started).all()
    assert counted.used.sum() == len(plan.rows.workers)
    spent = counted.computing_s + counted.messages_s + counted.waiting_s
    if plan.steps:
        np.testing.assert_allclose(spent, plan.time_s[-1], rtol=1e-9)
    # a row that is honest in time is computed from the version that was handed
    assert (plan.rows.versions == plan.rows.handed).all() or timing == {"name": "replay", "age": 4}
    oldest = schedule.get("max_age")
    if schedule["name"] == "synchronous" or schedule.get("bound") == 0:
        oldest = 0
        quorum = {"n-f": n - f, 1: 1}.get(schedule.get("quorum"), n)
        assert (plan.sizes == quorum).all()
        assert (plan.seen == quorum).all()
    if schedule["name"] == "sampled":
        oldest = 0
        assert (plan.sizes == 3).all()
        assert (plan.seen == 3).all()
    if oldest is not None:
        assert (plan.ages <= oldest).all()
    if schedule.get("apply") == "each" and oldest != 0:
        assert (plan.sizes == 1).all()
    if schedule.get("bound") and not schedule.get("suspect_after_s"):
        assert gap(plan, n) <= schedule["bound"]


def gap(plan: Timeline, n: int) -> int:
    """The largest lead, over all jobs begun, of their worker's clock over the smallest one at that moment."""
    lost = np.where(plan.outcomes == Outcome.LOST, np.nan, plan.unused.arrived_s)
    workers, jobs, begun = (
        np.concatenate([getattr(plan.rows, name), getattr(plan.unused, name)])
        for name in ("workers", "jobs", "started_s")
    )
    arrived = np.concatenate([plan.rows.arrived_s, lost])
    largest = 0
    for worker, job, moment in zip(workers, jobs, begun, strict=True):
        mine = (~np.isnan(arrived) & (workers == worker) & (jobs < job)).sum()
        # what arrives at that very moment may come after: to count it makes the lead smaller, never larger
        others = np.bincount(workers[arrived <= moment], minlength=n)
        largest = max(largest, mine - others.min())
    return int(largest)


def test_the_clock_gap_that_the_tests_measure_is_seen_where_nobody_waits():
    slow = {"name": "constant", "factors": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0]}
    assert gap(made({"name": "asynchronous", "apply": "each"}, latency=slow), 7) > 3
    assert gap(made({"name": "stale_synchronous", "bound": 2, "apply": "each"}, latency=slow), 7) == 2


@pytest.mark.parametrize("examples", [50, by_night(100)])
def test_whoever_may_begin_a_job_has_begun_it(examples):
    drawn = given(every_schedule, latencies, timings, st.integers(0, 3))(has_begun_what_it_may)
    settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])(drawn)()


def has_begun_what_it_may(schedule, latency, timing, seed):
    looked = []

    def looking(book):
        if not over(book):
            # who leaves updates out may begin in some of them alone
            byzantine, always = book.senders.workers, book.senders.timing.always
            idle = [worker for worker in book.idle if always or worker not in byzantine]
            may = [worker for worker in idle if book.schedule.free(book.board, worker)]
            if book.order is not None:
                under_way = [job for jobs in (book.open, book.ready) for job in jobs.values()]
                asked = len(book.waiting) + sum(job.handed == book.step for job in under_way)
                may = [worker for worker in may if worker not in book.waiting and asked < book.schedule.asked]
            looked.append(may)
        return was(book)

    was = stopping.stuck
    with mock.patch.object(stopping, "stuck", looking):
        made(schedule, latency=latency, seed=seed, attack={"name": "empire", "timing": timing})
    assert not [idle for idle in looked if idle]


@pytest.mark.parametrize(
    ("schedule", "latency", "age"),
    [
        # suspected until their next row, which sends no other worker on
        (
            {"name": "stale_synchronous", "bound": 1, "apply": "buffer", "rows": 5, "suspect_after_s": 6.0},
            {"name": "lognormal", "stragglers": {"share": 0.3, "factor": 5.0}},
            3,
        ),
        ({"name": "stale_synchronous", "bound": 3, "warm_up": "partial"}, {"name": "constant"}, 2),
        # rows are dropped, and the next ones are young enough
        ({"name": "asynchronous", "max_age": 3}, {"name": "exponential"}, 3),
    ],
)
def test_byzantine_workers_that_are_late_go_on_and_hold_up_nobody(schedule, latency, age):
    attack = {"name": "empire", "timing": {"name": "late", "age": age}}
    plan = made(schedule, 7, 60, f=2, latency=latency, attack=attack)
    assert not plan.stopped
    assert plan.steps == 60
    jobs = np.bincount(np.concatenate([plan.rows.workers, plan.unused.workers]), minlength=7)
    assert jobs[:2].min() > 60 / 7 / 3


@settings(max_examples=30, deadline=None)
@given(latencies, st.integers(1, 9), st.integers(1, 40), st.integers(0, 5))
def test_blocks_of_updates_in_step_are_what_the_events_would_give(latency, n, steps, seed):
    if isinstance(latency, dict):
        latency = {key: value for key, value in latency.items() if key not in ("loss", "crashes")}
    scenario = small(latency=latency, workers={"total": n, "byzantine": 0})
    one = made("synchronous", n, steps, f=0, seed=seed, latency=latency)
    other = in_step(steps, build_draws(scenario.latency, n, seed, MessageBits(1000, 1000, 1000)))
    for x, y in zip(
        (*one.rows, one.first, one.seen, one.time_s), (*other.rows, other.first, other.seen, other.time_s), strict=True
    ):
        assert np.array_equal(x, y)
    check(other, n)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 30))
def test_synchronous_updates_hold_one_fresh_row_of_every_worker(n, steps):
    plan = check(synchronous(n, steps), n)
    assert (plan.sizes == n).all()
    assert (np.sort(plan.rows.workers.reshape(steps, n), axis=1) == np.arange(n)).all()
    assert (plan.ages == 0).all()
    assert plan.time_s.tolist() == list(range(1, steps + 1))


def test_a_bound_of_zero_is_synchronous():
    options = {"name": "stale_synchronous", "bound": 0}
    one, other = made(options, latency="exponential"), made("synchronous", latency="exponential")
    for x, y in zip((*one.rows, one.first, one.time_s), (*other.rows, other.first, other.time_s), strict=True):
        assert np.array_equal(x, y)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"apply": "each"}, "apply"),
        ({"apply": "buffer", "rows": 3}, "apply and rows"),
        ({"max_age": 3, "staleness": "polynomial"}, "max_age and staleness"),
        ({"suspect_after_s": 9.0}, "suspect_after_s"),
    ],
)
def test_a_bound_of_zero_refuses_what_it_would_not_heed(options, named):
    with pytest.raises(ValueError, match=f"bound must be at least 1 with {named}, which have no meaning"):
        schedules.build("stale_synchronous", 7, 1, bound=0, **options)
    assert schedules.build("stale_synchronous", 7, 1, bound=1, **options).by_clock


def participants(**options):
    """The participants, `[T, k]`, of 40 workers in 200 updates."""
    plan = made({"name": "sampled", "participants": 5, **options}, 40, 200)
    return plan.rows.workers.reshape(200, -1)


def test_all_workers_are_drawn_equally_often_and_independently_of_the_update_before():
    drawn = participants()
    times = np.bincount(drawn.ravel(), minlength=40)
    # 200 draws of 5 of 40: 25 each on average, deviation 4.7
    assert times.min() > 8
    assert times.max() < 45
    again = np.mean([len(set(one) & set(other)) for one, other in itertools.pairwise(drawn)])
    assert 0.4 < again < 0.9
    assert not np.array_equal(drawn, made({"name": "sampled", "participants": 5}, 40, 200, seed=1).rows.workers)


def test_in_turn_everybody_takes_part_once_before_anybody_does_twice():
    drawn = participants(by="cyclic")
    for first in range(0, 200, 8):
        assert sorted(drawn[first : first + 8].ravel()) == list(range(40))
    assert sorted(drawn[0]) != [0, 1, 2, 3, 4]


def test_by_samples_who_holds_more_is_drawn_more_often():
    data = {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.3}}
    plan = made({"name": "sampled", "participants": 1, "by": "samples"}, 10, 3000, data=data)
    scenario = small(workers={"total": 10, "byzantine": 2}, data=data)
    sizes = situation(scenario.run).sizes()
    assert sizes.max() > 3 * sizes.min()
    # one at a time the chances are the shares
    expected = 3000 * sizes / sizes.sum()
    times = np.bincount(plan.rows.workers, minlength=10)
    assert (np.abs(times - expected) < 5 * np.sqrt(expected)).all()


def test_asking_more_than_are_needed_takes_the_fastest_and_passes_over_who_is_busy():
    slow = {"name": "constant", "factors": [20.0] * 4 + [1.0] * 6}
    options = {"name": "sampled", "participants": 2, "asked": 6}
    plan = made(options, 10, 40, latency=slow)
    # at least two of six asked are fast
    assert plan.rows.workers.min() == 4
    assert plan.time_s.tolist() == list(range(1, 41))
    asked = np.concatenate([plan.rows.started_s, plan.unused.started_s])
    who = np.concatenate([plan.rows.workers, plan.unused.workers])
    # who is slow is asked again when it is done, and not before
    for worker in range(4):
        assert (np.diff(np.sort(asked[who == worker])) >= 20).all()
    # without it every slow participant is waited for
    assert made({**options, "asked": 2}, 10, 40, latency=slow).time_s[-1] > 200


def test_the_dead_are_passed_over_and_a_lost_row_is_asked_of_another():
    crashes = [{"worker": worker, "at": 10.5} for worker in range(5)]
    plan = made({"name": "sampled", "participants": 3}, 10, 50, latency={"name": "constant", "crashes": crashes})
    assert plan.steps == 50
    assert plan.rows.workers[plan.rows.handed > 12].min() == 5
    plan = made({"name": "sampled", "participants": 3}, 10, 50, latency={"name": "constant", "loss": 0.3})
    assert plan.steps == 50
    lost = plan.outcomes == Outcome.LOST
    assert lost.sum() > 20
    # nobody is asked twice for one update while there are others
    asked = [
        *zip(plan.rows.workers, plan.rows.handed, strict=True),
        *zip(plan.unused.workers, plan.unused.handed, strict=True),
    ]
    assert len(set(asked)) == len(asked)


def test_a_rule_is_told_how_many_byzantine_workers_a_round_is_likely_to_have():
    rng = np.random.default_rng(0)
    for n, f, participants in ((1000, 200, 50), (100, 10, 10), (20, 5, 20)):
        told = likely_bound(n, f, participants)
        byzantine = rng.hypergeometric(f, n - f, participants, 200_000)
        assert (byzantine > told).mean() <= 0.0013
        assert told == 0 or (byzantine > told - 1).mean() > 0.0007
    assert schedules.build("sampled", 1000, 200, participants=50).doubted == likely_bound(1000, 200, 50)
    # Byzantine workers may be the fastest of those asked
    assert schedules.build("sampled", 100, 20, participants=20, asked=40).doubted == likely_bound(100, 20, 40) > 9
    assert 100 < likely_bound(100_000, 10_000, 1000) < 150
    assert schedules.build("sampled", 1000, 200, participants=50, doubted=7).doubted == 7


@pytest.mark.parametrize(
    ("field", "place", "value", "message"),
    [
        ("workers", 3, 3, "update 1 names a worker outside 0..2"),
        ("workers", 3, 2, "update 1 has two rows of one worker"),
        ("handed", 5, 2, "update 1 has a row from a version that does not exist yet"),
        ("versions", 5, 2, "update 1 has a row from a version that does not exist yet"),
        ("versions", 0, -1, "update 0 has a row from a version that does not exist yet"),
        ("jobs", 7, 1, "update 2 has jobs out of order"),
        ("started_s", 4, 0.5, "update 1 has a row that was started before its version was made"),
        ("arrived_s", 4, 2.5, "update 1 has a row that arrives too late"),
        ("computed_s", 4, 2.5, "update 1 has a row that arrives too late, or before it was computed"),
    ],
)
def test_an_impossible_timeline_is_refused_with_the_update(field, place, value, message):
    plan = synchronous(3, 4)
    broken = getattr(plan.rows, field).copy()
    broken[place] = value
    with pytest.raises(ValueError, match=message):
        check(plan._replace(rows=plan.rows._replace(**{field: broken})), 3)


def test_updates_that_go_back_in_time_or_hold_no_row_are_refused():
    plan = synchronous(3, 4)
    with pytest.raises(ValueError, match="update 2 happens before the one before it"):
        check(plan._replace(time_s=np.array([1.0, 2.0, 0.5, 4.0])), 3)
    with pytest.raises(ValueError, match="update 1 has no row"):
        check(plan._replace(first=np.array([0, 3, 3, 9, 12])), 3)


def test_a_job_may_be_used_or_unused_and_not_both():
    plan = made({"name": "synchronous", "quorum": 3}, latency="exponential")
    assert (plan.outcomes == Outcome.DROPPED).sum() > 5
    again = plan._replace(unused=plan.unused._replace(jobs=plan.unused.jobs - 1))
    with pytest.raises(ValueError, match="jobs out of order"):
        check(again, 7)


def test_several_updates_may_happen_at_one_time():
    plan = timeline([[0], [1]], [[0], [1]], [[0], [0]], [1.0, 1.0])
    assert check(plan, 2).time_s.tolist() == [1, 1]


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"must be \[T, k\]"):
        timeline([[0, 1]], [[0, 0]], [[0]], [1.0])
    plan = synchronous(3, 4)
    with pytest.raises(ValueError, match=r"must all be \[R\]"):
        check(plan._replace(rows=plan.rows._replace(jobs=plan.rows.jobs[:-1])), 3)
    with pytest.raises(ValueError, match=r"first must be \[T \+ 1\]"):
        check(plan._replace(seen=plan.seen[:-1]), 3)


def test_a_timeline_comes_back_as_it_was_saved_and_a_damaged_one_is_refused(tmp_path):
    file = tmp_path / "timeline.npz"
    plan = made(
        "asynchronous", latency={"name": "exponential", "loss": 0.3}, attack={"name": "empire", "timing": "silent"}
    )
    assert plan.stopped
    save(plan, file)
    back = load(file)
    for x, y in zip((*plan.rows, *plan.unused), (*back.rows, *back.unused), strict=True):
        assert np.array_equal(x, y, equal_nan=True)
        assert x.dtype == y.dtype
    assert back.stopped == plan.stopped
    for name in ("first", "seen", "time_s", "outcomes"):
        assert np.array_equal(getattr(plan, name), getattr(back, name))
    with pytest.raises(ValueError, match="cannot be read"):
        load(tmp_path / "nothing.npz")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"timeline.npz: is no timeline, or damaged"):
        load(file)
    np.savez(file, params=np.zeros(3))
    with pytest.raises(ValueError, match=r"timeline.npz: is no timeline"):
        load(file)


# Who is missed, and that it is said: nothing hangs.
SILENT = {"attack": {"name": "empire", "timing": "silent"}}
DEAD = [{"worker": worker, "at": 0.0} for worker in range(7)]
STOPS = [
    ("synchronous", SILENT, "rows of 7 workers, and has 5.*workers 0, 1 do not answer"),
    ({"name": "synchronous", "quorum": 6}, SILENT, "rows of 6 workers, and has 5"),
    ("synchronous", {"latency": {"name": "constant", "crashes": [{"worker": 4, "at": 3.5}]}}, "3 of 30.*worker 4 died"),
    ({"name": "asynchronous", "apply": "buffer", "rows": 6}, SILENT, "6 different workers"),
    ("asynchronous", SILENT, "a first row of 7 workers, and has those of 5"),
    ({"name": "stale_synchronous", "apply": "each"}, SILENT, "3 rows ahead of the slowest, which has delivered 0"),
    ({"name": "basgd", "buckets": 7}, SILENT, "each of 7 buckets, and has one in 5"),
    ("basgd", {"latency": {"name": "exponential", "crashes": DEAD}}, "after 0 of 30 updates.*died"),
]


@pytest.mark.parametrize(("schedule", "changes", "said"), STOPS)
def test_where_no_update_can_come_any_more_the_timeline_ends_and_says_why(schedule, changes, said):
    plan = check(made(schedule, **changes), 7)
    assert re.search(said, plan.stopped), plan.stopped
    assert plan.steps < 30


def test_a_worker_that_comes_back_is_waited_for():
    crash = {"name": "constant", "crashes": [{"worker": 4, "at": 3.5, "back": 50.0}]}
    plan = made("synchronous", latency=crash)
    assert plan.steps == 30
    assert plan.time_s[2:5].tolist() == [3.0, 51.0, 52.0]
    assert usage(plan, 7).lost.tolist() == [0, 0, 0, 0, 1, 0, 0]


def test_a_silent_worker_is_waited_for_or_suspected_as_asked():
    silent = {"attack": {"name": "empire", "timing": "silent"}, "latency": "constant"}
    waiting = {"name": "stale_synchronous", "bound": 2, "apply": "each"}
    assert made(waiting, **silent).stopped
    plan = made({**waiting, "suspect_after_s": 5.0}, **silent)
    assert not plan.stopped
    assert set(plan.rows.workers.tolist()) == {2, 3, 4, 5, 6}
    # three rows of each within three seconds, then the wait for the suspicion
    assert plan.time_s[[14, 15]].tolist() == [3.0, 6.0]


def test_lost_messages_are_computed_again():
    plan = made("synchronous", latency={"name": "exponential", "loss": 0.4}, steps=200)
    assert plan.steps == 200
    lost = (plan.outcomes == Outcome.LOST).sum()
    # 1400 rows that came through with probability 0.6 each: 933 lost, deviation 39
    assert 933 - 4 * 39 < lost < 933 + 4 * 39


def test_byzantine_workers_that_are_first_are_in_every_quorum_and_buffer_and_late_ones_in_none():
    for schedule in ({"name": "synchronous", "quorum": 5}, {"name": "asynchronous", "apply": "buffer", "rows": 5}):
        counts = {}
        for timing in ("honest", "first", {"name": "late", "age": 1000}):
            plan = made(schedule, latency="exponential", attack={"name": "empire", "timing": timing}, steps=100)
            counts[str(timing)] = np.bincount(plan.updates[plan.rows.workers < 2], minlength=100)
        honest, first, late = counts.values()
        assert 0.5 < honest.mean() < 1.95
        assert (first == 2).all()
        assert (late == 0).all()


def test_a_late_row_is_just_as_old_as_asked_and_never_older_than_the_server_accepts():
    for max_age, expected in ((None, 6), (4, 4)):
        plan = made(
            {"name": "asynchronous", "apply": "each", "max_age": max_age},
            latency="exponential", attack={"name": "empire", "timing": {"name": "late", "age": 6}}, steps=100,
        )  # fmt: skip
        lies = plan.rows.workers < 2
        ages = plan.ages[lies]
        # the rows of both Byzantine workers may fall due at once: the second is then one update older
        assert ages.min() == expected
        assert len(ages) > 10
        assert (ages <= (expected if max_age else expected + 1)).all()


def test_chosen_updates_are_the_only_ones_with_byzantine_rows():
    timing = {"name": "chosen", "every": 7, "start": 3}
    plan = made({"name": "synchronous", "quorum": 5}, attack={"name": "empire", "timing": timing}, steps=50)
    assert set(plan.updates[plan.rows.workers < 2].tolist()) == {3, 10, 17, 24, 31, 38, 45}


def test_a_replayed_row_is_older_than_the_server_believes():
    timing = {"name": "replay", "age": 4}
    plan = made("synchronous", attack={"name": "empire", "timing": timing})
    lies = plan.rows.workers < 2
    assert (plan.ages == 0).all()
    assert (plan.rows.versions[lies] == np.maximum(0, plan.updates[lies] - 4)).all()
    assert (plan.rows.versions[~lies] == plan.updates[~lies]).all()


def test_rows_after_the_first_of_a_worker_wait_for_no_buffer():
    # worker 6 is nine times as fast as the others
    fast = {"name": "constant", "factors": [9.0] * 6 + [1.0]}
    plan = made({"name": "asynchronous", "apply": "buffer", "rows": 4}, latency=fast, steps=40)
    assert (plan.sizes == 4).all()
    counted = usage(plan, 7)
    # in nine seconds six slow rows make two buffers with three of them each, and seven of nine fast rows have no place
    assert counted.dropped[6] == 3.5 * counted.used[6]
    assert counted.dropped[:6].sum() == 0


def test_each_bucket_has_the_rows_of_its_own_workers():
    plan = made({"name": "basgd", "buckets": 3}, latency="exponential")
    for step in range(plan.steps):
        assert {*(plan.rows.workers[plan.places_of(step)] % 3)} == {0, 1, 2}
    assert (plan.seen == 3).all()


def test_a_table_warms_up_with_all_workers_or_with_as_many_as_the_rule_needs():
    full, partial = (
        made({"name": "asynchronous", "warm_up": word}, latency="exponential", least=5) for word in ("all", "partial")
    )
    assert full.seen[0] == full.sizes[0] == 7
    assert (full.seen == 7).all()
    assert (full.sizes[1:] == 1).all()
    assert partial.seen[0] == 5
    assert partial.seen[-1] == 7
    assert (np.diff(partial.seen) >= 0).all()
    assert partial.time_s[0] < full.time_s[0]


def test_a_scenario_with_impossible_latency_is_refused_with_the_key():
    for latency, message in (
        ({"name": "constant", "factors": [1.0, 2.0]}, r"latency.factors: 2 factors for 7 workers"),
        ({"name": "constant", "crashes": [{"worker": 7, "at": 1.0}]}, r"latency.crashes: worker 7 is outside 0..6"),
        ({"name": "constant", "crashes": [{"worker": 1, "at": 2.0, "back": 1.0}]}, r"back at 1.0 and must die before"),
        ({"name": "constant", "loss": 1.0}, r"latency.loss"),
        ({"name": "normal"}, r"latency: unknown latency model 'normal'"),
        ({"name": "pareto", "alpha": 0.0}, r"latency.alpha"),
    ):
        with pytest.raises(ScenarioError, match=message):
            small(latency=latency)


def test_exactly_so_many_byzantine_workers_take_part_in_every_update():
    """Under lost messages and deaths too, drawn uniformly or by samples; the rule is told their number."""
    for by in ("uniform", "samples"):
        schedule = {"name": "sampled", "participants": 5, "by": by}
        byzantine = {"count": 6, "which": "random", "participating": 2}
        rough = {"name": "constant", "loss": 0.3, "crashes": [{"worker": each, "at": 3.0} for each in range(4)]}
        for latency in ("constant", rough):
            scenario = small(
                workers={"total": 20, "byzantine": byzantine},
                schedule=schedule,
                steps=60,
                latency=latency,
                rule="trimmed_mean",
            )
            there = plan(at(scenario, 3))
            ranked = fixed_byzantine_workers(at(scenario, 3))
            assert there.steps == 60
            for step in range(60):
                taking = there.rows.workers[there.places_of(step)]
                assert len(set(taking)) == 5
                assert np.isin(taking, ranked).sum() == 2
            # all of both kinds have turns, but for those that died
            assert latency == rough or len(set(there.rows.workers.tolist())) == 20
            assert f_of_rule(scenario.run, 5) == 2
    # another number declared: what is likely of that many, as without the key
    told = small(workers={"total": 20, "byzantine": byzantine, "declared": 1}, schedule=schedule)
    assert f_of_rule(told.run, 5) == likely_bound(20, 1, 5) == 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "synchronous"}, "participating: is for the schedule sampled"),
        ({"schedule": {"name": "sampled", "participants": 5, "asked": 7}}, "leave schedule.asked out"),
        ({"schedule": {"name": "sampled", "participants": 5, "by": "cyclic"}}, "choose uniform or samples"),
        ({"schedule": {"name": "sampled", "participants": 1}}, "choose 0 to 1"),
        ({"schedule": {"name": "sampled", "participants": 18}}, "choose 4 to 6"),
        ({"attack": {"name": "empire", "timing": "silent"}}, "take no part"),
        ({"byzantine": {"per_round": "sampled"}}, "participating: is for the same Byzantine workers always"),
        ({"byzantine": {"count": 1}}, "2 cannot take part where 1 are Byzantine"),
    ],
)
def test_a_number_of_byzantine_participants_that_cannot_be_had_is_refused(changes, expected):
    byzantine = {"count": 6, "participating": 2, **changes.get("byzantine", {})}
    given = {
        "schedule": {"name": "sampled", "participants": 5},
        **changes,
        "workers": {"total": 20, "byzantine": byzantine},
    }
    given.pop("byzantine", None)
    with pytest.raises(ScenarioError, match=r"^workers.byzantine") as caught:
        check_parts(small(**given).run)
    assert expected in str(caught.value)
