"""Timings of the user's own: planned like those of byzax, and refused in one line where they break their contract."""

import re
import textwrap
from typing import Any

import numpy as np
import pytest

import byzax
from byzax.simulator.byzantine_timing import timing
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.timeline import check
from byzax.simulator.timings import HeldRow, Reply, Timing
from byzax.simulator.timings.base import CountOrZero
from byzax.simulator.validation.part_checks import check_numbers
from tests.simulator.conftest import small
from tests.simulator.test_timeline import made

BUFFER = {"name": "asynchronous", "apply": "buffer", "rows": 5}


def at_the_last_moment(*, rows: CountOrZero = 3) -> Timing:
    """Byzantine workers hold their rows until so many others wait, and send before the next honest one."""
    return Timing(
        reply=lambda board, worker, last: Reply("held"),
        release=lambda board, row: row.before_honest and len(board.waiting) >= rows,
    )


def now_and_then() -> Timing:
    """Byzantine workers answer from an old model in every third update, and in the others not at all."""

    def reply(board, worker, last):
        if board.step % 3:
            return None if worker else Reply("never")
        return Reply(older=2)

    return Timing(reply=reply, always=False, oldest=2)


def of(function, **options) -> Any:
    return {"attack": {"name": "empire", "timing": {"name": function, **options} if options else function}}


def test_a_timing_of_ones_own_holds_rows_until_it_says_so():
    plan = check(made(BUFFER, latency="exponential", steps=60, **of(at_the_last_moment)), 7)
    assert plan.steps == 60
    waits, held = plan.rows.arrived_s - plan.rows.started_s, plan.rows.workers < 2
    for step in range(60):
        order = np.argsort(plan.rows.arrived_s[plan.places_of(step)], kind="stable")
        byzantine = np.flatnonzero(held[plan.places_of(step)][order])
        # three others are there before the two of them
        assert byzantine.tolist() == [3, 4]
    assert (waits[held] > 0).all()
    # the option changes what is planned
    sooner = made(BUFFER, latency="exponential", steps=60, **of(at_the_last_moment, rows=0))
    assert sooner.time_s[-1] < plan.time_s[-1]


def test_a_timing_of_ones_own_leaves_updates_out_and_reads_old_models():
    plan = check(made({"name": "synchronous", "quorum": 5}, steps=30, **of(now_and_then)), 7)
    assert plan.steps == 30
    byzantine = plan.rows.workers < 2
    assert set(plan.updates[byzantine].tolist()) <= set(range(0, 30, 3))
    np.testing.assert_array_equal(plan.rows.versions[byzantine], np.maximum(0, plan.rows.handed[byzantine] - 2))
    stopped = made("synchronous", steps=30, **of(now_and_then)).stopped
    assert "workers 0, 1 do not answer (attack.timing now_and_then)" in stopped


def test_a_run_with_a_timing_in_a_file_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        textwrap.dedent("""
            from byzax.simulator.timings import Reply, Timing

            def patient(*, rows: int = 3):
                return Timing(
                    reply=lambda board, worker, last: Reply("held"),
                    release=lambda board, row: row.before_honest and len(board.waiting) >= rows,
                )
            """)
    )
    settings: dict[str, Any] = {
        "data": "digits", "model": "softmax", "rule": "median", "steps": 6, "schedule": BUFFER,
        "attack": {"name": "sign_flip", "timing": {"name": f"{file}:patient", "rows": 2}},
        "workers": {"total": 7, "byzantine": 2},
    }  # fmt: skip
    study = byzax.Study(name="own", **settings)
    assert byzax.run(study, quiet=True).runs["status"].tolist() == ["complete"]
    # written with its options, and found again
    assert byzax.Study(**study.given()) == study


@pytest.mark.parametrize(
    ("function", "changes", "said"),
    [
        (now_and_then, {"attack": {"until": 5}}, "^attack.timing: now_and_then needs the same Byzantine workers"),
        (
            now_and_then,
            {"workers": {"total": 7, "byzantine": {"count": 2, "participating": 1}},
             "schedule": {"name": "sampled", "participants": 4}},
            r"^workers.byzantine.participating: .*do not answer \(attack.timing now_and_then\)",
        ),
        (at_the_last_moment, {"topology": "gossip"}, "^topology: gossip: Byzantine nodes send in time"),
    ],
)  # fmt: skip
def test_what_a_run_cannot_have_is_decided_by_what_a_timing_declares(function, changes, said):
    attack = {**of(function)["attack"], **changes.get("attack", {})}
    with pytest.raises(ScenarioError, match=said):
        check_numbers(small(**{**changes, "attack": attack}).run)


BROKEN = {
    "nothing that is a reply": ("reply=lambda board, worker, last: 3", "reply must give a Reply or None, got int"),
    "a reply that fails": ("reply=lambda board, worker, last: {}['x']", "mine fails: KeyError: 'x'"),
    "a job without a row": ("reply=lambda board, worker, last: None", "reply leaves a job without a row: .*always=Fal"),
    "silence": ("reply=lambda board, worker, last: Reply('never')", "reply leaves a job without a row: .*always=False"),
    "an unknown word": ("reply=lambda board, worker, last: Reply('soon')", "sent must be 'in_time', .* got 'soon'"),
    "too old a model": (
        "reply=lambda board, worker, last: Reply(older=4), oldest=3",
        r"older must be a whole number from 0 to 3 \(oldest of the Timing\), got 4",
    ),
    "a model of the future": ("reply=lambda board, worker, last: Reply(older=-1)", "older must be .* got -1"),
    "no truth value": (
        "reply=lambda board, worker, last: Reply('held'), release=lambda board, row: row.age",
        "release must give true or false, got int",
    ),
    "a release that fails": (
        "reply=lambda board, worker, last: Reply('held'), release=lambda board, row: 1 / 0",
        "mine fails: ZeroDivisionError",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_timing_that_breaks_its_contract_is_refused_with_file_and_line(tmp_path, case):
    fields, said = BROKEN[case]
    file = tmp_path / "mine.py"
    lines = [
        "from byzax.simulator.timings import Reply, Timing",
        "",
        "def mine():",
        "    return Timing(",
        fields,
        "    )",
    ]
    file.write_text("\n".join(lines))
    with pytest.raises(ScenarioError) as caught:
        byzax.validate(small(attack={"name": "empire", "timing": f"{file}:mine"}, schedule="asynchronous").run)
    text = str(caught.value)
    assert re.match(f"attack.timing: (mine: )?{said}", text), text
    assert "\n" not in text
    assert text.endswith(f" ({file}:5)"), text


def test_without_byzantine_workers_all_send_in_time():
    nobody = small(workers={"total": 7, "byzantine": 0}, **of(now_and_then)).run
    assert timing(nobody).in_time
    assert not timing(small(**of(now_and_then)).run).in_time


@pytest.mark.parametrize(("oldest", "ages"), [(None, [3, 4]), (2, [2, 3, 4])])
def test_a_late_row_is_sent_at_its_age_and_no_later_than_the_schedule_accepts(oldest, ages):
    late = byzax.simulator.timings.late(age=3)
    sent = [age for age in range(5) if late.release(None, HeldRow(0, age, oldest, before_honest=False))]
    assert sent == ages
