"""Races on the clock: real actors, real times, real kills; what was raced replays to the same bits."""

import time

import numpy as np
import pytest

from byzax.simulator.executors import RunError, loop
from byzax.simulator.executors.base import digest
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.timeline import Outcome, check
from tests.nightly import by_night
from tests.simulator.conftest import processes, same, small

TWO = {"workers": {"total": 7, "byzantine": 2}}
# with a rule that any number of them is enough for
FIVE = {"total": 7, "byzantine": 5, "declared": 0}
RACES = {
    "quorum": {**TWO, "schedule": {"name": "synchronous", "quorum": 5}, "rule": "median", "attack": "little"},
    "table": {
        **TWO, "schedule": "asynchronous", "rule": "krum", "attack": {"name": "empire", "timing": {"name": "late"}},
        "worker_momentum": 0.9, "workers": {"total": 7, "byzantine": 1},
    },
    "buffer": {
        **TWO, "schedule": {"name": "asynchronous", "apply": "buffer", "rows": 5, "staleness": "polynomial"},
        "rule": "median", "attack": {"name": "sign_flip", "timing": "first"}, "worker_momentum": 0.5,
        "variance_reduction": "saga",
    },
    "bound": {
        "schedule": {"name": "stale_synchronous", "bound": 1, "apply": "each"}, "workers": {"total": 7, "byzantine": 0},
        "latency": {"name": "exponential", "mean": 0.005, "loss": 0.1},
    },
    "replaying": {**TWO, "schedule": "asynchronous", "rule": "median",
                  "attack": {"name": "counting", "timing": {"name": "replay", "age": 5}}},
    "buckets": {**TWO, "schedule": "basgd", "rule": "median", "attack": "little"},
    "changing": {
        "workers": {"total": 7, "byzantine": {"count": 2, "per_round": "sampled"}}, "schedule": "asynchronous",
        "rule": "median", "attack": {"name": "label_flip", "from": 7, "every": 3},
        "local": {"steps": 2, "learning_rate": {"name": "inverse_time", "start": 0.3, "half_at": 5}},
    },
}  # fmt: skip


def race(session, **changes):
    usual = {"steps": 60, "evaluate_every": 20, "executor": {"name": "ray", "actors": 2}}
    scenario = small(clock="wall", **{**usual, **changes})
    return scenario, list(session(scenario))


@pytest.mark.slow
@pytest.mark.parametrize("name", RACES)
def test_a_race_replays_to_the_same_bits(ray_session, name):
    scenario, raced = race(ray_session, **RACES[name])
    timeline = raced[-1].timeline
    check(timeline, 7)
    assert [c.step for c in raced] == [0, 20, 40, 60]
    again = list(loop.replay(scenario.task, timeline))
    assert same(raced, again)
    assert digest(raced) == digest(again)


@pytest.mark.slow
def test_two_hundred_updates_of_five_racing_actors_replay_to_the_same_digest(ray_session):
    scenario, raced = race(
        ray_session, **TWO, schedule="asynchronous", rule="median", attack="little", steps=240,
        latency={"name": "exponential", "mean": 0.05},
        executor={"name": "ray", "actors": 5},
    )  # fmt: skip
    timeline = raced[-1].timeline
    assert timeline.steps == 240
    # nobody takes turns: the order is not the same again and again
    order = timeline.rows.workers[7:]
    assert len({tuple(order[i : i + 7].tolist()) for i in range(0, 210, 7)}) > 5
    assert digest(raced) == digest(list(loop.replay(scenario.task, timeline)))


@pytest.mark.slow
def test_times_of_the_latency_pass_for_real(ray_session):
    slow = {"name": "constant", "seconds": 0.02, "factors": [1.0] * 6 + [10.0]}
    begin = time.monotonic()
    _, raced = race(ray_session, schedule="synchronous", latency=slow, steps=5, workers={"total": 7, "byzantine": 0})
    assert time.monotonic() - begin > 5 * 0.2
    assert raced[-1].time_s > 5 * 0.2 - 1e-9
    timeline = raced[-1].timeline
    took = timeline.rows.computed_s - timeline.rows.started_s
    slowest = timeline.rows.workers == 6
    assert took[slowest].min() > 0.2 - 1e-9
    # the others are not held up by it, though it shares an actor with three of them
    assert np.median(took[~slowest]) < 0.2


@pytest.mark.parametrize(
    ("schedule", "goes_on"),
    [
        ("asynchronous", "leave"),
        by_night("synchronous", False),
        by_night({"name": "synchronous", "quorum": 3}, True),
        by_night({"name": "asynchronous", "max_age": 30}, "leave"),
        by_night({"name": "asynchronous", "dead_rows": "stay"}, True),
        by_night({"name": "asynchronous", "apply": "buffer", "rows": 6}, False),
        by_night({"name": "stale_synchronous", "bound": 2, "apply": "each"}, False),
        by_night({"name": "stale_synchronous", "bound": 2, "apply": "each", "suspect_after_s": 0.5}, True),
        by_night("basgd", False),
    ],
)
def test_a_killed_worker_actor_ends_a_race_with_a_result_or_with_the_reason_within_seconds(
    ray_session, schedule, goes_on
):
    pace = {"name": "constant", "seconds": 0.005}
    scenario = small(
        schedule=schedule, clock="wall", steps=400, evaluate_every=5, latency=pace,
        workers={"total": 7, "byzantine": 0, "declared": 3 if schedule == "basgd" else 0}, attack="none",
        executor={"name": "ray", "actors": 2},
    )  # fmt: skip
    checkpoints = ray_session(scenario)
    kept = [next(checkpoints), next(checkpoints)]
    victims = processes("ray::WorkerActor")
    assert len(victims) >= 2
    # one of the two that take part: the last hired of the session may be idle ones of other tests
    begin, outcome = time.monotonic(), None
    victims[0].kill()
    try:
        kept.extend(checkpoints)
    except RunError as error:
        outcome = str(error)
    assert time.monotonic() - begin < 30
    timeline = kept[-1].timeline
    if outcome is None:
        assert kept[-1].step == 400
    else:
        assert "stopped after" in outcome
        assert not goes_on
    if outcome is None and (timeline.outcomes == Outcome.LOST).any():
        steps, lost = timeline.lost.T
        assert 3 <= len(set(lost.tolist())) == len(lost) <= 4, "all workers of one of two actors"
        last = [timeline.updates[timeline.rows.workers == worker].max(initial=-1) for worker in lost]
        assert (np.array(last) < steps).all()
        assert set(timeline.gone[:, 1].tolist()) == (set(lost.tolist()) if goes_on == "leave" else set())
        if goes_on == "leave":
            assert timeline.seen[-1] == 7 - len(lost)
        assert same(kept, list(loop.replay(scenario.task, timeline)))


@pytest.mark.parametrize("moment", [50, by_night(5), by_night(95)])
@pytest.mark.parametrize(
    "changes",
    [
        {"worker_momentum": 0.9},
        by_night({"worker_momentum": 0.5, "variance_reduction": "saga"}),
        by_night({"worker_momentum": 0.9, "schedule": {"name": "synchronous", "quorum": 3}}),
        by_night({"workers": FIVE, "attack": {"name": "empire", "timing": "first"}}),
        by_night({"workers": FIVE, "attack": {"name": "empire", "timing": {"name": "late"}}}),
    ],
)
def test_a_race_does_not_fail_over_a_row_of_an_actor_that_died(ray_session, changes, moment):
    usual = {"schedule": "asynchronous", "attack": "little", **TWO, "steps": 200, "evaluate_every": 5}
    pace = {"name": "constant", "seconds": 0.001}
    executor = {"name": "ray", "actors": 2}
    scenario = small(clock="wall", latency=pace, executor=executor, **{**usual, **changes})
    kept = []
    for checkpoint in ray_session(scenario):
        kept.append(checkpoint)
        if checkpoint.step == moment:
            processes("ray::WorkerActor")[0].kill()
    timeline = kept[-1].timeline
    check(timeline, 7)
    assert kept[-1].step == 200
    assert not len(timeline.lost) or (timeline.outcomes == Outcome.LOST).any()
    assert same(kept, list(loop.replay(scenario.task, timeline)))


@pytest.mark.slow
@pytest.mark.parametrize(("role", "name"), [("ServerActor", "the parameter-server"), ("AdversaryActor", "adversary")])
def test_without_server_or_adversary_a_race_ends_with_its_name(ray_session, role, name):
    executor = {"name": "ray", "actors": 1, "adversary_actor": role == "AdversaryActor"}
    scenario = small(clock="wall", schedule="asynchronous", steps=5000, evaluate_every=5, executor=executor)
    checkpoints = ray_session(scenario)
    next(checkpoints)
    for process in processes(f"ray::{role}"):
        process.kill()
    with pytest.raises(RunError, match=f"{name} actor died: its process was killed"):
        list(checkpoints)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        by_night(
            {"attack": {"name": "empire", "timing": "silent"}},
            "rows of 7 workers, and has 6.*worker 0 does not answer",
        ),
        by_night(
            {"latency": {"name": "constant", "seconds": 0.01, "crashes": [{"worker": 4, "at": 0.3}]}}, "worker 4 died"
        ),
    ],
)
def test_a_race_that_cannot_go_on_says_why_and_what_was_reached_is_kept(ray_session, changes, said):
    scenario = small(clock="wall", steps=5000, evaluate_every=5, executor={"name": "ray", "actors": 1}, **changes)
    begin, kept = time.monotonic(), []
    with pytest.raises(RunError, match=f"stopped after .*{said}"):
        kept.extend(ray_session(scenario))
        # (extend takes nothing over from an iterator that raises)
    assert time.monotonic() - begin < 20


def test_only_ray_can_race():
    with pytest.raises(ScenarioError, match="clock: wall needs racing workers: executor ray, not loop"):
        small(clock="wall")
    assert small(clock="wall", executor="ray").latency.seconds == 0.0
    assert small().latency.seconds == 1.0
