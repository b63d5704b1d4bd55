"""Large populations: the states of workers that never do a job take no memory, and those at rest may be in a file."""

import os

import numpy as np
import pytest

from byzax.simulator import executors
from byzax.simulator.executors import RunError
from byzax.simulator.executors.base import plan
from byzax.simulator.executors.state_pages import plan_pages
from tests.nightly import by_night
from tests.simulator.conftest import run, same, small
from tests.simulator.test_snapshots import left, rest_is_same

POPULATION = {"workers": {"total": 12, "byzantine": 3}, "steps": 8, "evaluate_every": 4}
SAMPLED = {"schedule": {"name": "sampled", "participants": 4}}
CASES = {
    "momentum": SAMPLED | {"worker_momentum": 0.9},
    # two never deliver a row
    "asynchronous": {
        "schedule": {"name": "asynchronous", "apply": "buffer", "rows": 7},
        "latency": {"name": "exponential", "factors": [1e4] * 2 + [1.0] * 10},
        "worker_momentum": 0.9,
    },
    "reduction": SAMPLED | {"variance_reduction": {"name": "saga"}, "worker_momentum": 0.5},
    "feedback": SAMPLED | {"wire": {"up": [{"name": "top_k", "share": 0.2, "error_feedback": True}]}},
}
# a page for every update
SMALL = {"name": "vectorised", "state_memory_gib": 1e-9}


@pytest.mark.parametrize("case", [name if name == "momentum" else by_night(name) for name in CASES])
def test_a_run_with_states_in_a_file_is_the_one_with_all_in_memory(case):
    changes = POPULATION | CASES[case]
    assert plan_pages(plan(small(**changes).run), 12, np.zeros(3, np.float32), 1)
    paged, whole = run(small(**changes, executor=SMALL)), run(small(**changes, executor="vectorised"))
    # sums of a table may be added up in another order
    assert same(paged, whole) or case == "reduction"
    for one, other in zip(paged, whole, strict=True):
        np.testing.assert_allclose(one.params, other.params, rtol=1e-6, atol=1e-7)
    for one, other in zip(paged, run(small(**changes)), strict=True):
        np.testing.assert_allclose(one.params, other.params, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", ["momentum", by_night("asynchronous"), by_night("feedback")])
def test_a_run_with_states_in_a_file_is_gone_on_with_by_itself_and_by_others(case, tmp_path, monkeypatch):
    monkeypatch.setattr("byzax.simulator.executors.vectorised.LONGEST_LOOP", 3)
    changes = POPULATION | CASES[case] | {"record": {"weights": True, "rows": 3}}
    scenario, others = small(**changes, executor=SMALL), small(**changes, executor="vectorised")
    with executors.session(scenario.executor) as execute:
        whole, kept = left(execute, scenario, tmp_path / "snapshot.npz")
        for snapshot in kept:
            assert rest_is_same(whole, list(execute(scenario.task, {0: snapshot})), snapshot)
            assert rest_is_same(whole, list(execute(others.task, {0: snapshot})), snapshot)
        _, in_memory = left(execute, others, tmp_path / "other.npz")
    for snapshot, other in zip(kept, in_memory, strict=True):
        assert rest_is_same(whole, list(execute(scenario.task, {0: other})), other)
        # what was never at work is in no snapshot
        drawn = {*plan(scenario.run).rows.workers[: 4 * snapshot.state.step].tolist()}
        for kinds in (snapshot.state.nodes, other.state.nodes):
            assert case == "asynchronous" or {*kinds["worker"].nodes.tolist()} <= drawn


@pytest.mark.parametrize("schedule", [SAMPLED["schedule"], "asynchronous"], ids=str)
@pytest.mark.parametrize("room", [0, 4, 5, 7, 12])
def test_pages_have_the_workers_of_their_updates_and_no_more_than_have_room(schedule, room):
    timeline = plan(small(**POPULATION | {"steps": 20}, schedule=schedule, latency="exponential").run)
    jobs = [{*timeline.rows.workers[timeline.rows.versions == update].tolist()} for update in range(20)]
    pages = plan_pages(timeline, 12, np.zeros(3, np.float32), 12 * room)
    if not pages:
        assert room == 12 or max(map(len, jobs)) == 12
        return
    assert [page.since for page in pages] + [20] == [0, *(page.until for page in pages)]
    for page, after in zip(pages, [*pages[1:], None], strict=True):
        workers = set().union(*jobs[page.since : page.until])
        assert page.workers.tolist() == sorted(workers)
        assert len(workers) <= room or page.until == page.since + 1
        # the next update had no room
        assert after is None or len(workers | jobs[after.since]) > room


def test_states_that_are_all_in_use_or_nothing_are_in_no_pages():
    sampled = plan(small(**POPULATION, **SAMPLED).run)
    assert plan_pages(sampled, 12, None, 1) == []
    everyone = plan(small(**POPULATION).run)
    assert plan_pages(everyone, 12, np.zeros(3, np.float32), 1) == []


def test_a_disk_without_room_is_told_before_the_first_update(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises((RunError, ValueError), match=r"executor\.state_memory_gib: .* set TMPDIR to a folder"):
        run(small(**POPULATION, **CASES["momentum"], executor=SMALL))
