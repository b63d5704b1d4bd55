"""`byzax run --dry-run` and `--shuffle`: what would be run, and the order of runs."""

from collections import Counter

import pytest
from typer.testing import CliRunner

from byzax.experiments import estimating, resuming, run_groups
from byzax.experiments.api import described
from byzax.experiments.cli import app
from byzax.experiments.strict_yaml import dump

STUDY = {
    "name": "s",
    "steps": 30,
    "data": "digits",
    "model": "softmax",
    "workers": {"total": 7, "byzantine": 2},
    "rule": "median",
    "attack": "none",
    "executor": "vectorised",
    "repeats": 2,
    "skip_impossible": True,
    "grid": {"rule.name": ["average", "median", "bulyan"], "attack.name": ["none", "sign_flip"]},
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "s.yaml"
    path.write_text(dump(STUDY))
    return path


def test_a_dry_run_says_what_would_be_run_and_writes_nothing(file):
    before = sorted(file.parent.rglob("*"))
    result = CliRunner().invoke(app, ["run", str(file), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert sorted(file.parent.rglob("*")) == before
    assert (
        "8 runs: 4 combinations of rule.name, attack.name, 2 seeds of each, 2 impossible ones left out" in result.output
    )
    assert "0 are there, 0 go on, 8 are to be run" in result.output
    assert "average_sign-flip_seed-1" in result.output
    assert "from a few updates of 4 of 4 programs" in result.output


def test_a_dry_run_counts_what_is_there(file):
    assert CliRunner().invoke(app, ["run", str(file), "--set", "repeats=1", "--set", "steps=2"]).exit_code == 0
    result = CliRunner().invoke(app, ["run", str(file), "--dry-run", "--set", "steps=2"])
    assert "4 are there, 0 go on, 4 are to be run" in result.output
    refused = CliRunner().invoke(app, ["run", str(file), "--dry-run"])
    assert refused.exit_code == 2
    assert "was run with" in refused.output


def test_an_estimate_counts_updates_and_runs():
    rules = {"grid": {"rule.name": ["average", "median"], "attack.name": ["none", "sign_flip"]}}
    short = estimating.estimate(described({**STUDY, **rules}, {}), resuming.NEW)
    long = estimating.estimate(described({**STUDY, **rules}, {"steps": 30_000, "evaluate_every": 30_000}), resuming.NEW)
    assert short is not None
    assert long is not None
    assert (short.measured, short.programs) == (4, 4)
    # a thousand times as many updates; compiling and starting are counted once
    assert long.seconds > 5 * short.seconds
    assert estimating.estimate(described({**STUDY, **rules}, {"executor": "ray"}), resuming.NEW) is None


def test_combinations_that_differ_in_numbers_are_one_program():
    grid = {"optimizer.learning_rate": [0.1, 0.2, 0.3]}
    found = estimating.estimate(described({**STUDY, "grid": grid}, {}), resuming.NEW)
    assert found is not None
    assert found.programs == 1


def test_early_runs_cover_all_combinations_in_the_same_order_each_time(tmp_path):
    expansion = described({**STUDY, "repeats": 3}, {})
    groups = run_groups.group_runs(expansion, tmp_path)
    scattered = run_groups.scattered(groups, 0)
    assert Counter(map(id, scattered)) == Counter(map(id, groups))
    cells = [group.cell for group in scattered]
    number = len(expansion.cells)
    for begin in range(0, len(cells), number):
        assert sorted(set(cells[begin : begin + number])) == sorted(set(cells))
    assert [seed for group in scattered[:number] for seed in group.runs] == [0] * number
    assert [group.cell for group in run_groups.scattered(groups, 0)] == cells
    assert cells[:number] != sorted(set(cells))


def test_a_shuffled_study_has_the_same_runs(file):
    options = ["--set", "steps=2", "--quiet"]
    plain = CliRunner().invoke(app, ["run", str(file), "--out", "plain", *options])
    shuffled = CliRunner().invoke(app, ["run", str(file), "--out", "shuffled", "--shuffle", *options])
    assert plain.exit_code == shuffled.exit_code == 0
    for path in (file.parent / "plain/runs").iterdir():
        other = file.parent / "shuffled/runs" / path.name / "updates.csv"
        assert other.read_text() == (path / "updates.csv").read_text()
