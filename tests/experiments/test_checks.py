"""Checks before a start and their order; combinations skipped on purpose; quiet commands."""

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from byzax.experiments.entries import Entry
from byzax.experiments.progress import report
from byzax.experiments.study import load
from byzax.experiments.study_files import read_skipped
from byzax.experiments.versions import user_files
from byzax.simulator import validation
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import Impossible, ScenarioError
from byzax.simulator.validation import validate, validate_quickly
from tests.experiments.command import ROOT, SMALL, byzax, write

RULE = '''"""A rule."""

from byzax.aggregators import Aggregator, Info


def mine(n, f):
    return Aggregator(lambda d: (), lambda rows, state, context=None: (rows.mean(axis=0), state, Info()))
'''


@pytest.mark.parametrize(
    ("content", "out", "said"),
    [
        ("name: a\nsteps: [1\n", "out", "a comma or a ] is missing"),
        ("name: a\n", "used", "is used already"),
        ("name: a\n", "file", "cannot be"),
    ],
)
def test_files_and_folders_are_looked_at_before_anything_is_loaded(tmp_path, content, out, said):
    (tmp_path / "a.yaml").write_text(content)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine").touch()
    (tmp_path / "file").touch()
    code = f"""
import sys
from byzax.experiments.cli import main
sys.argv[1:] = ["run", {str(tmp_path / "a.yaml")!r}, "--out", {str(tmp_path / out)!r}]
try:
    main()
except SystemExit as end:
    assert end.code == 2, end.code
heavy = {{"jax", "ray", "pandas", "matplotlib", "flax", "byzax.simulator.config.study"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rule": "krum", "workers": {"total": 8, "byzantine": 3}}, "rule: krum needs n >= 2f + 3"),
        ({"pre": [{"name": "bucketing", "s": 3}], "rule": "krum"}, "rule: krum needs"),
        ({"data": {"name": "csv", "path": "/nowhere.csv", "target": "y"}}, "'/nowhere.csv' is not there"),
        ({"attack": {"name": "zero"}, "optimizer": {"name": "sgd", "momentum": 1.0}}, "optimizer.momentum"),
        ({"grid": {"rule.name": ["average", "bulyan"], "workers.byzantine": [1, 2]}}, "rule: bulyan needs n >= 4f + 3"),
    ],
)
def test_numbers_and_files_are_looked_at_before_anything_is_traced(tmp_path, monkeypatch, changes, said):
    def traced(*_):
        pytest.fail("a part was traced")

    monkeypatch.setattr("jax.eval_shape", traced)
    result = byzax("run", write(tmp_path, **changes), "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert said in result.stderr


def test_all_files_are_looked_at_quickly_before_the_first_is_traced(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "validate", lambda *_: pytest.fail("a study was traced"))
    one, other = (
        write(tmp_path, "one.yaml"),
        write(tmp_path, "other.yaml", rule="krum", workers={"total": 4, "byzantine": 1}),
    )
    assert "other.yaml: rule: krum needs" in byzax("run", one, other, "--out", tmp_path / "out").stderr


GRID = {"rule.name": ["average", "krum"], "workers.byzantine": [3]}


def test_impossible_combinations_are_skipped_where_that_is_asked_for_and_listed(tmp_path):
    path, out = write(tmp_path, grid=GRID, skip_impossible=True, steps=1), tmp_path / "out"
    result = byzax("run", path, "--out", out)
    assert result.exit_code == 0, result.output
    combination = "rule.name=krum, workers.byzantine=3"
    needed = "rule: krum needs n >= 2f + 3: with n=7 rows f is at most 2, got f=3"
    said = f"skipped: {needed} (or unproven: true, which takes n >= 2f + 1) ({combination})"
    assert f"{path}: {said}" in result.stderr.splitlines()
    assert said in " ".join(result.stdout.split())
    assert said in (out / "summary.md").read_text()
    assert len([*(out / "runs").iterdir()]) == 1
    assert said in " ".join(byzax("show", out).stdout.split())
    (only,) = read_skipped(out)
    assert only[0] == combination
    assert byzax("run", path, "--out", out, "--overwrite", "--set", "grid={rule.name: [average]}").exit_code == 0
    assert not (out / "skipped.csv").exists()


def test_a_mistake_is_no_impossible_combination(tmp_path):
    for changes, said in (
        ({"grid": {"rule.name": ["krum", "median"], "rule.distance": ["plain"]}}, "rule.distance: unknown key"),
        ({"grid": {"rule.name": ["krum", "crumb"]}}, "unknown rule 'crumb'"),
        ({"grid": {"steps": [1, "many"]}}, "steps: must be a whole number"),
        ({"grid": {"worker_momentum": [0.5, "a"]}}, "worker_momentum: a number, or a mapping"),
        ({"grid": {"data": ["digits", {"name": "csv", "path": "/nowhere.csv", "target": "y"}]}}, "is not there"),
        ({"grid": {"rule.name": ["average", "failing"]}}, "failing: apply fails"),
    ):
        with pytest.raises(ScenarioError, match=said) as caught:
            validate(validate_quickly(load(write(tmp_path, skip_impossible=True, **changes))))
        assert not isinstance(caught.value, Impossible)


def test_a_grid_of_which_nothing_is_possible_is_refused(tmp_path):
    grid = {"rule.name": ["krum", "bulyan"], "workers.byzantine": [3]}
    result = byzax("run", write(tmp_path, grid=grid, skip_impossible=True), "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "grid: every combination is impossible, such as: rule: krum needs" in result.stderr
    impossible = write(tmp_path, rule="krum", workers={"total": 4, "byzantine": 1}, skip_impossible=True)
    assert "rule: krum needs" in byzax("run", impossible).stderr
    contradicting = {"workers.declared": [1, 99]}
    assert len(load(write(tmp_path, grid=contradicting, skip_impossible=True)).cells) == 1
    # seen when the rule is traced
    weighing = {"rule.name": ["average", "median"]}
    found = validate(load(write(tmp_path, grid=weighing, weights="samples", skip_impossible=True)))
    assert [each.choices for each in found.skipped] == [{"rule.name": "median"}]


def test_a_choice_that_is_impossible_in_part_of_the_grid_is_not_chosen(tmp_path):
    from byzax.experiments import tune

    path = write(tmp_path, grid={"workers.byzantine": [1, 2]}, skip_impossible=True)
    planned = tune.plan_tuning(path, [], ["rule.name=[average,bulyan]"], [], None)
    planned = planned._replace(expansion=validate_quickly(planned.expansion))
    for i in range(3):
        (tmp_path / "runs" / f"{i}").mkdir(parents=True)
        measured = {
            "position": i, "rule": "average", "attack": "none", "others": {}, "seed": 0, "status": "complete",
            "step": 4, "time_s": 4.0, "gradients": 28, "test_loss": 1.0, "test_accuracy": 0.5,
            "validation_loss": 1.0, "validation_accuracy": 0.1 + i,
        }  # fmt: skip
        (tmp_path / "runs" / f"{i}" / "summary.json").write_text(json.dumps(measured))
    rows = {row.chosen["rule.name"]: row for row in tune.tried_combinations(tmp_path, planned)}
    assert (rows["average"].best, rows["bulyan"].best) == (True, False)
    assert (rows["bulyan"].counted, rows["bulyan"].of) == (1, 2)


def test_list_without_a_kind_lists_the_kinds():
    result = byzax("list")
    assert result.exit_code == 0
    for kind in ("rules", "attacks", "executors"):
        assert f"byzax list {kind}" in result.stdout
    assert "a kind is needed: rules, " in byzax("list", "--markdown").stderr


def test_quiet_prints_the_results_alone(tmp_path):
    path = write(tmp_path, steps=1, grid={"attack": ["none", "crashing"]})
    result = byzax("run", path, "--out", tmp_path / "out", "--quiet")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("average, crashing, seed 0: failed: ")
    assert "final test accuracy" in result.stdout
    refused = byzax("bench", "rules", "--quiet")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)


def test_in_a_notebook_progress_is_one_line_without_codes(monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    screen, run = io.StringIO(), Entry("a", parse_as(Study, SMALL), "average", "none", {}, 0)
    with report(Console(file=screen, force_terminal=True, width=80), 1, 4) as told:
        told.starting("loop")
        told.begin([run], 4)
        told.failed(run, "no reason")
    assert "\x1b" not in screen.getvalue()
    assert "no reason" in screen.getvalue()


@pytest.fixture
def own_rule(tmp_path):
    """The file of a rule of one's own."""
    file = tmp_path / "mine.py"
    file.write_text(RULE)
    return file


def test_replay_runs_no_file_of_the_users_that_has_changed(tmp_path, monkeypatch, own_rule):
    file, out = own_rule, tmp_path / "out"
    path = write(tmp_path, rule=f"{file}:mine")
    assert [*user_files(load(path).study)] == ["rule"]
    assert byzax("run", path, "--out", out).exit_code == 0
    (noted,) = json.loads(next(out.glob("runs/*/versions.json")).read_text())["own_files"]
    assert (noted["key"], noted["file"]) == ("rule", str(file))
    assert byzax("replay", out).exit_code == 0
    monkeypatch.setattr("byzax.simulator.executors.loop.replay", lambda *_: pytest.fail("it was run"))
    file.write_text(RULE + "\n")
    result = byzax("replay", out)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert f"rule: {file} is not what it was in this run" in result.stderr
    versions = next(out.glob("runs/*/versions.json"))
    versions.write_text("{}")
    assert "does not say which files of your own" in byzax("replay", out).stderr
