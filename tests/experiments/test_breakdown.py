"""Measured breakdown points: the search, and `byzax breakdown`."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import byzax as library
from byzax.experiments.breakdown.search import (
    RuleOutcome,
    Span,
    breakdown_interval,
    breaking,
    in_words,
    narrowing_values,
    next_values,
)
from byzax.simulator.mistakes import ScenarioError
from tests.experiments.command import SMALL, byzax, write


def search(span, outcome):
    """The outcome of all values that the search asks for."""
    known = {}
    while values := next_values(span, known):
        assert not set(values) & set(known)
        known |= {value: outcome(value) for value in values}
    return known


def outcome_of(breaks, refused=math.inf):
    def outcome(value):
        if value >= refused:
            return RuleOutcome.REFUSED
        return RuleOutcome.BROKEN if value >= breaks else RuleOutcome.HOLDS

    return outcome


@given(st.integers(0, 40), st.integers(1, 60), st.integers(0, 120), st.integers(0, 120), st.integers(2, 6))
def test_the_first_whole_number_that_breaks_is_found_in_a_logarithm_of_steps(low, size, at, refused, points):
    span = Span(low, low + size, 0.05, points)
    known = search(span, outcome_of(at, refused))
    first = min(max(at, low), max(refused, low))
    assert breaking(known) == (first if first <= low + size else None)
    assert len(known) <= points + math.ceil(math.log2(size + 1))
    assert all(isinstance(value, int) for value in known)


@given(st.floats(0.01, 0.99), st.sampled_from([0.2, 0.05, 0.01]))
def test_a_number_is_found_to_the_precision_asked_for(at, precision):
    known = search(Span(0.0, 4.0, precision), outcome_of(4 * at))
    found = breaking(known)
    holds = max(value for value in known if value < found)
    assert holds < 4 * at <= found
    assert found - holds <= 4 * precision * (1 + 1e-6)


@given(st.integers(0, 9), st.sampled_from([0.0, 0.6, 2.5]), st.integers(2, 30))
def test_no_whole_number_below_an_end_of_the_interval_is_left_out(seed, shift, size):
    random = np.random.default_rng(seed)
    slopes = random.normal(0.1, 0.05, 6)
    scores = {value: dict(enumerate(1.2 - shift / 2 - slopes * value)) for value in range(size + 1)}

    def outcome(value):
        return RuleOutcome.BROKEN if np.mean([*scores[value].values()]) < 0.5 else RuleOutcome.HOLDS

    def interval(values):
        return breakdown_interval({value: scores[value] for value in values}, 0.5, higher_is_better=True)

    span = Span(0, size, 0.05)
    known = search(span, outcome)
    while values := narrowing_values(span, known, interval(known)):
        assert not set(values) & set(known)
        known |= {value: outcome(value) for value in values}
    assert interval(known) == interval(scores)


def test_what_holds_again_is_said_and_so_are_refusals_and_the_ends():
    span = Span(1, 7, 0.05, 7)
    wavy = search(span, lambda value: RuleOutcome.BROKEN if value in (3, 4) else RuleOutcome.HOLDS)
    assert in_words(span, wavy) == "broken at 3, holds at 2; holds again at 5, 6, 7"
    assert in_words(span, search(span, outcome_of(9, refused=5))) == "refused at 5, holds at 4"
    assert in_words(span, search(span, outcome_of(9))) == "holds up to 7"
    assert in_words(span, search(span, outcome_of(1))) == "broken at 1, the smallest value"


def test_the_interval_is_that_of_resampled_seeds():
    random = np.random.default_rng(2)
    values = {place: dict(enumerate(random.normal(1 - 0.2 * place, 0.5, 6))) for place in (1, 2, 3, 4)}
    low, high = breakdown_interval(values, 0.5, higher_is_better=True)
    scores = np.array([[*each.values()] for each in values.values()])
    points = []
    for _ in range(4000):
        means = scores[:, random.integers(0, 6, 6)].mean(axis=1)
        points.append(next((place for place, mean in zip(values, means, strict=True) if mean < 0.5), math.inf))
    assert (low, high) == tuple(np.quantile(points, [0.025, 0.975], method="inverted_cdf"))
    assert low < high
    turned = {place: {seed: -value for seed, value in each.items()} for place, each in values.items()}
    assert breakdown_interval(turned, -0.5, higher_is_better=False) == (low, high)
    two = {place: {seed: each[seed] for seed in (0, 1)} for place, each in values.items()}
    assert all(math.isnan(end) for end in breakdown_interval(two, 0.5, higher_is_better=True))


STUDY = {
    **SMALL, "steps": 24, "evaluate_every": 24, "data": {"name": "digits", "batch_size": 16}, "repeats": 3,
    "optimizer": {"name": "sgd", "learning_rate": 0.5},
    "workers": {"total": 9, "byzantine": 1}, "attack": {"name": "sign_flip", "scale": 4.0}, "executor": "vectorised",
    "grid": {"rule.name": ["average", "krum"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("breakdown")
    path = write(folder, **STUDY)
    done = byzax("breakdown", path, "--below", 0.5, "--out", folder / "out")
    assert done.exit_code == 0, done.output
    return folder, path, done


def test_the_point_is_the_one_that_a_grid_over_all_values_gives(found):
    folder, _, done = found
    points = pd.read_csv(folder / "out" / "breakdown.csv").set_index("rule.name")
    curve = pd.read_csv(folder / "out" / "breakdown-curve.csv")
    grid = {"rule.name": ["average", "krum"], "workers.byzantine": [1, 2, 3]}
    whole = library.run({**STUDY, "grid": grid}, quiet=True).summary().set_index(["rule", "workers.byzantine"])["mean"]
    broken = [f for f in (1, 2, 3) if whole["average", str(f)] < 0.5]
    assert points.loc["average", "breakdown"] == broken[0]
    assert points.loc["average", "interval_low"] <= broken[0] <= points.loc["average", "interval_high"]
    for row in curve.loc[curve["runs"] > 0].to_dict("records"):
        if row["value"] <= 3:
            assert row["mean"] == pytest.approx(whole[row["rule.name"], str(row["value"])], abs=1e-6)
    # n >= 2f + 3: with 9 rows krum takes f up to 3
    assert np.isnan(points.loc["krum", "breakdown"])
    assert points.loc["krum", "words"].startswith("refused at 4, holds at 3: krum needs n >= 2f + 3")
    assert "krum" in done.stdout
    assert (folder / "out" / "breakdown.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "out" / "breakdown.pdf").read_bytes().startswith(b"%PDF")


def test_a_second_call_runs_nothing_and_says_the_same(found):
    folder, path, done = found
    times = {file: file.stat().st_mtime_ns for file in (folder / "out" / "runs").glob("*/metrics.csv")}
    again = byzax("breakdown", path, "--below", 0.5, "--out", folder / "out")
    assert again.stdout == done.stdout
    assert {file: file.stat().st_mtime_ns for file in (folder / "out" / "runs").glob("*/metrics.csv")} == times


def test_the_strength_of_an_attack_is_a_setting_too_and_python_gives_tables():
    points = library.breakdown(
        STUDY, over="attack.scale", low=0.5, high=8.5, precision=0.3, quiet=True, grid={"rule.name": ["average"]}
    )
    (row,) = points.points.to_dict("records")
    curve = points.curve.set_index("value")["outcome"].to_dict()
    assert curve[0.5] == "holds"
    assert curve[row["breakdown"]] == "broken"
    assert row["breakdown"] - max(value for value, each in curve.items() if each == "holds") <= 0.3 * 8
    assert points.plot().axes[0].get_xlabel() == "attack.scale"
    assert len(points.result.runs) == 3 * len(curve)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"over": "rule.name"}, "low: the smallest value of rule.name is needed"),
        ({"over": "workers.byzantine", "low": 3, "high": 2}, "low: a value below high is needed, got 3 and 2"),
        ({"over": "attack.strength", "low": 1, "high": 2}, "attack.strength"),
        (
            {"over": "attack.scale", "low": 1, "high": 2, "grid": {"attack.scale": [1.0]}},
            "the grid varies attack.scale",
        ),
        ({"over": "repeats", "low": 1, "high": 2}, "over: repeats cannot be varied"),
        ({"over": "workers.byzantine", "below": math.nan}, "below: a finite number is needed, got nan"),
        ({"over": "workers.byzantine", "measure": "speed"}, "measure must be one of"),
        ({"over": "workers.byzantine", "report": "worst"}, "report: 'worst': give last, best, area"),
        ({"over": "workers.byzantine", "points": 1}, "points: at least the two ends are measured, got 1"),
        ({"over": "workers.byzantine", "precision": 2}, "precision: a share between 0 and 1 is needed, got 2"),
    ],
)
def test_mistakes_are_refused_before_anything_is_run(arguments, words):
    with pytest.raises(ScenarioError) as error:
        library.breakdown(STUDY, quiet=True, **arguments)
    assert words in str(error.value)


def test_mistakes_on_the_command_line_are_one_line(tmp_path):
    path = write(tmp_path, **STUDY)
    for options, words in (
        (["--over", "attack.scale"], "--from: the smallest value"),
        (["--over", "attack.scale", "--from", 1], "--to: the largest value"),
        (["--below", "nan"], "--below: a finite number is needed, got nan"),
        (["--points", 1], "--points: at least the two ends"),
        (["--from", "two"], "--from two: a number is needed"),
        (["--measure", "speed"], "measure must be one of"),
    ):
        done = byzax("breakdown", path, "--out", tmp_path / "out", "--quiet", *options)
        assert (done.exit_code, done.stderr.startswith(words)) == (2, True), done.output
