"""Jobs whose rows nobody reads are not carried out, and change no other number."""

import numpy as np
import pytest

from byzax.simulator.executors.base import network_of, prepare
from byzax.simulator.executors.programs import Program
from byzax.simulator.executors.waves import held_rows
from byzax.simulator.server_table import UNREAD, WORK
from tests.nightly import by_night
from tests.simulator.conftest import run, same, small

OWN = """
from byzax import attacks

def reading(n, f):
    # all but what it declares
    return attacks.build("NAME", n, f)._replace(reads_own=True)

def lying(n, f):
    # it reads its own rows
    return attacks.build("sign_flip", n, f)._replace(reads_own=False)
"""

CASES = {
    "synchronous": {},
    "momentum": {"worker_momentum": 0.9},
    "random": {"workers": {"total": 7, "byzantine": {"count": 2, "which": "random"}}},
    "drawn": {"workers": {"total": 7, "byzantine": {"count": 2, "per_round": "sampled"}}},
    "asynchronous": {"schedule": "asynchronous", "latency": "exponential"},
    "buffer": {"schedule": {"name": "asynchronous", "apply": "buffer", "rows": 3}, "latency": "exponential"},
    "table": {"schedule": {"name": "asynchronous", "apply": "table"}, "latency": "exponential"},
    "sampled": {"schedule": {"name": "sampled", "participants": 4}},
    "recorded": {"record": {"rows": 2, "weights": True}},
}


def attacks_in(path, name="empire"):
    """The file of attacks of one's own."""
    path.write_text(OWN.replace("NAME", name))
    return path


def steps_of(scenario):
    """The steps of all jobs of a scenario, and the workers that do them."""
    prepared = prepare(scenario.run)
    network, _ = network_of(scenario.run, prepared)
    table = network.table.events(0, prepared.timeline.steps)
    jobs = table.row >= 0
    return table.step[jobs], table.node[jobs]


@pytest.mark.parametrize("executor", ["loop", by_night("vectorised")])
@pytest.mark.parametrize("case", CASES)
def test_a_run_is_the_one_in_which_all_jobs_are_carried_out(tmp_path, case, executor):
    changes = {"workers": {"total": 7, "byzantine": 2}, "executor": executor} | CASES[case]
    reading = small(**changes, attack=f"{attacks_in(tmp_path / 'own.py')}:reading")
    leaving = small(**changes, attack="empire")
    assert set(steps_of(reading)[0]) == {WORK}
    assert (steps_of(leaving)[0] == UNREAD).sum() > 0
    expected, got = run(reading), run(leaving)
    for one, other in zip(expected, got, strict=True):
        for a, b in zip(one.recorded, other.recorded, strict=True):
            computed = np.isfinite(b.rows).all(axis=1)
            assert (computed == ~b.byzantine).all()
            for field in ("workers", "byzantine", "forged", "aggregate", "params", "weights"):
                np.testing.assert_allclose(getattr(a, field), getattr(b, field), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(a.rows[computed], b.rows[computed], rtol=1e-5, atol=1e-6)
        if executor == "vectorised":
            np.testing.assert_allclose(one.params, other.params, rtol=1e-4, atol=1e-6)
    if executor == "loop":
        assert same([each._replace(recorded=()) for each in expected], [each._replace(recorded=()) for each in got])


def test_an_attack_that_reads_rows_and_says_that_it_does_not_gets_zeros(tmp_path):
    own = attacks_in(tmp_path / "own.py")
    update = {"record": {"rows": [0]}, "workers": {"total": 7, "byzantine": 2}}
    lying, honest = (
        next(made for each in run(small(**update, attack=attack)) for made in each.recorded)
        for attack in (f"{own}:lying", "sign_flip")
    )
    assert (lying.forged[:2] == 0).all()
    assert (honest.forged[:2] != 0).any()


@pytest.mark.parametrize(
    ("attack", "computed"),
    [
        # who reads its own rows, what others computed, or sends what it computed in some updates
        ("sign_flip", 2),
        ({"name": "empire", "knowledge": "own"}, 2),
        ({"name": "empire", "knowledge": "colluding"}, 2),
        ({"name": "empire", "from": 3}, 2),
        ({"name": "empire", "every": 2}, 2),
        # with others beside it
        ({"name": "empire", "workers": 1, "beside": [{"name": "sign_flip"}]}, 2),
        ({"name": "empire", "workers": 1, "beside": [{"name": "label_flip"}]}, 1),
        ({"name": "empire", "workers": 1, "beside": [{"name": "none"}]}, 1),
        ({"name": "empire", "workers": 1, "beside": [{"name": "zero"}]}, 0),
        ("label_flip", 2),
        ("none", 2),
    ],
    ids=str,
)
def test_the_jobs_of_byzantine_workers_whose_rows_are_read_are_carried_out(attack, computed):
    steps, workers = steps_of(small(attack=attack, workers={"total": 7, "byzantine": 2}))
    assert len({*workers[(steps == WORK)].tolist()} & {0, 1}) == computed
    assert {*workers[steps == WORK].tolist()} >= {2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    "changes",
    [
        # what a worker that is Byzantine now remembers of its job
        {"worker_momentum": 0.5, "workers": {"total": 7, "byzantine": {"count": 2, "per_round": "sampled"}}},
        # what both ends of a message remember of it
        {"wire": {"up": ["top_k"]}},
    ],
    ids=str,
)
def test_jobs_that_leave_something_behind_that_is_read_are_carried_out(changes):
    steps, _ = steps_of(small(attack="empire", **changes))
    assert (steps == WORK).all()


@pytest.mark.parametrize("by", ["uniform", "cyclic"])
def test_updates_with_other_numbers_of_byzantine_participants_are_compiled_once(by):
    scenario = small(
        attack="empire",
        steps=30,
        workers={"total": 12, "byzantine": {"count": 5, "which": "random"}},
        schedule={"name": "sampled", "participants": 6, "by": by, "doubted": 1},
    )
    prepared = prepare(scenario.run)
    network, _ = network_of(scenario.run, prepared)
    timeline = prepared.timeline
    program = Program(network, timeline, held_rows(network.steps, timeline, 12))
    table = network.table.events(0, timeline.steps)
    update = np.repeat(np.arange(timeline.steps), np.diff(table.bounds))
    counts = np.bincount(update[table.step == UNREAD], minlength=timeline.steps)
    assert counts.max() > counts.min() > 0
    (kind,) = program.kinds
    widths = {network.steps[wave.step].name: wave.width for wave in kind.waves}
    assert widths == {"unread": counts.min(), "work": 6 - counts.min(), "forge": 1, "update": 1}
