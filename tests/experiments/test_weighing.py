"""Refusals say what the user wrote and why a rule sees fewer rows; weights by samples say what they do."""

import itertools

import pytest

from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.validation import validate
from byzax.simulator.validation.weighing import weight_notes
from tests.nightly import by_night
from tests.simulator.conftest import small

TWELVE = {"workers": {"total": 12, "byzantine": 3}, "attack": "none"}
EACH = {"name": "asynchronous", "apply": "each"}


def refusal(**changes) -> str:
    with pytest.raises(ScenarioError) as error:
        validate(small(**{**TWELVE, **changes}).task)
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        (
            {"schedule": EACH, "pre": ["nnm"]},
            "pre[0]: ",
            "with the schedule asynchronous (apply each) the rule sees 1 row of 12 workers, of which it is told 1",
        ),
        ({"schedule": EACH, "rule": "krum"}, "rule: ", "asynchronous (apply each) the rule sees 1 row of 12 workers"),
        (
            {"schedule": {"name": "asynchronous", "apply": "buffer", "rows": 6}, "rule": "krum"},
            "rule: ",
            "with the schedule asynchronous (apply buffer, rows 6) the rule sees 6 rows of 12 workers",
        ),
        (
            {"schedule": {"name": "asynchronous", "apply": "buffer"}, "rule": "bulyan"},
            "rule: ",
            "with the schedule asynchronous (apply buffer, rows 10, the default) the rule sees 10 rows of 12 workers",
        ),
        (
            {"schedule": {"name": "synchronous", "quorum": 4}, "rule": "trimmed_mean", "pre": ["nnm"]},
            "pre[0]: ",
            "with the schedule synchronous (quorum 4) the rule sees 4 rows of 12 workers",
        ),
        (
            {"schedule": "sampled", "rule": "krum", "workers": {"total": 12, "byzantine": 4}},
            "rule: ",
            "sampled (participants 10, the default) the rule sees 10 rows of 12 workers",
        ),
        (
            {"pre": [{"name": "bucketing", "s": 4}], "rule": "krum"},
            "rule: ",
            "of the n=12 rows 3 are left by what stands before it",
        ),
        (
            {"schedule": "sampled", "workers": {"total": 7, "byzantine": 1}},
            "schedule.participants: ",
            "must be at most n = 7, got 10, which is the default: write schedule.participants",
        ),
        (
            {"schedule": {"name": "asynchronous", "apply": "buffer"}, "workers": {"total": 7, "byzantine": 1}},
            "schedule.rows: ",
            "must be at most n = 7, one row of each worker, got 10, which is the default: write schedule.rows",
        ),
    ],
)
def test_a_refusal_says_what_was_written_and_why_the_rule_sees_fewer_rows(changes, key, said):
    text = refusal(**changes)
    assert text.startswith(key)
    assert said in text
    assert "\n" not in text


@pytest.mark.slow
def test_every_schedule_before_every_pre_and_rule_is_accepted_or_says_how_many_rows_there_are_and_why():
    schedules = [
        EACH, {"name": "asynchronous", "apply": "buffer", "rows": 3}, {"name": "stale_synchronous", "apply": "each"},
        {"name": "basgd", "buckets": 2}, {"name": "synchronous", "quorum": 2},
        {"name": "sampled", "participants": 2},
    ]  # fmt: skip
    pres = [[], ["nnm"], [{"name": "bucketing", "s": 2}], [{"name": "clip", "bound": 1.0}]]
    refused = []
    for schedule, pre, rule in itertools.product(schedules, pres, ["krum", "trimmed_mean"]):
        try:
            validate(small(**{**TWELVE, "schedule": schedule, "pre": pre, "rule": rule}).task)
        except ScenarioError as error:
            refused.append((f"with the schedule {schedule['name']} (", str(error)))
    assert len(refused) > 30
    for how, text in refused:
        assert how in text
        assert "of 12 workers" in text


@pytest.mark.parametrize(
    ("rule", "pre", "said"),
    [
        by_night("bulyan", [], "rule: bulyan is no sum of its rows times its weights, so that"),
        (
            {"name": "cge", "output": "sum"},
            [],
            "rule: cge is no sum of its rows times its weights, so that",
        ),
        by_night("clipped_clustering", [], "rule: clipped_clustering is no sum of its rows times"),
        (
            "average",
            [{"name": "clip", "bound": 1.0}],
            "rule: average with what stands before it is no sum of its rows times its weights",
        ),
        ("median", [], "rule: median gives its rows no weights, so that"),
        ("fltrust", [], "rule: fltrust is no sum of its rows times its weights, so that"),
    ],
)
def test_what_makes_weights_by_samples_impossible_is_said_as_it_is(rule, pre, said):
    changes = {"rule": rule, "pre": pre, "weights": "samples", "workers": {"total": 12, "byzantine": 2}}
    text = refusal(**changes)
    assert text.startswith(said)
    assert "take weights equal, or a rule whose aggregate is its weights times the rows" in text


def test_byzantine_workers_that_may_weigh_more_than_the_rule_is_told_are_named_before_a_run():
    uneven = {"name": "digits", "batch_size": 8, "partition": {"name": "dirichlet", "alpha": 0.1}}

    def noted(**changes):
        return list(weight_notes(small(**{**TWELVE, "weights": "samples", "rule": "multi_krum", **changes}).task))

    (line,) = noted(data=uneven)
    assert line.startswith("weights: by samples 3 declared Byzantine workers may weigh ")
    assert "of 12 workers that hold equally many, and multi_krum is told 3: " in line
    assert "take weights equal" in line
    # shares alike, heads alone, nobody declared, and a rule that promises nothing
    assert not noted()
    assert not noted(data=uneven, weights="equal")
    assert not noted(data=uneven, workers={"total": 12, "byzantine": 3, "declared": 0})
    assert not noted(data=uneven, rule="average")
