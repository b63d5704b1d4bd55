"""`byzax tune`: what is chosen, by what, and that nobody looks at the test samples."""

import csv
import json
import re
import shutil
import signal
import time

import numpy as np
import pytest

from byzax.experiments import tune
from byzax.experiments.strict_yaml import read_mapping
from byzax.simulator.config.grid import Cell
from byzax.simulator.diagnostics import Evaluation
from tests.experiments.command import byzax, command, write
from tests.experiments.test_bad_input import refused
from tests.simulator.conftest import small

OVER = ["--over", "optimizer.learning_rate=[0.001,1.0,0.01]"]
STEPS = {"steps": 6, "evaluate_every": 3, "repeats": 2, "grid": {"rule.name": ["average", "median"]}}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A finished tuning, its scenario and its folder."""
    folder = tmp_path_factory.mktemp("tuned")
    path, out = write(folder, **STEPS), folder / "out"
    return byzax("tune", path, *OVER, "--out", out), path, out


def last(run):
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))[-1]


def test_what_an_oracle_over_the_metrics_chooses_is_chosen(tuned):
    result, path, out = tuned
    assert result.exit_code == 0, result.output
    found = {}
    for run in out.glob("runs/*"):
        speed = read_mapping(run / "scenario.yaml")["optimizer"]["learning_rate"]
        found.setdefault(speed, []).append(float(last(run)["validation_accuracy"]))
    assert {speed: len(each) for speed, each in found.items()} == {0.001: 4, 1.0: 4, 0.01: 4}
    means = {speed: np.mean(each) for speed, each in found.items()}
    best = max(means, key=lambda speed: means[speed])
    assert best == 1.0
    with (out / "tune.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["chosen"] for row in rows] == ["0", "1", "0"]
    for row in rows:
        speed = float(row["optimizer.learning_rate"])
        assert float(row["mean_validation_accuracy"]) == pytest.approx(means[speed])
        assert (row["count"], row["of"]) == ("4", "4")
    chosen = read_mapping(out / "tuned.yaml")
    before = read_mapping(path)
    assert chosen == {**before, "optimizer": {"name": "sgd", "learning_rate": 1.0}}
    assert "which are others' validation samples" in result.stderr


def test_the_chosen_row_is_marked_where_there_is_no_colour(tuned):
    result, _, out = tuned
    for said in (result.stdout, byzax("show", out).stdout):
        assert "\x1b" not in said
        marked = [line.split() for line in said.splitlines() if "chosen" in line]
        assert [(line[0], line[-2:]) for line in marked] == [("1", ["4", "chosen"])]


def test_how_long_runs_last_may_be_chosen(tmp_path):
    planned = tune.plan_tuning(write(tmp_path), [], ["steps=[2, 4]"], [], None)
    assert [cell.study.steps for cell in planned.expansion.cells] == [2, 4]


def test_no_test_number_is_printed_or_written(tuned):
    result, _, out = tuned
    assert "test acc" not in result.output
    assert "validation accuracy" in result.output
    for run in out.glob("runs/*"):
        summary = json.loads((run / "summary.json").read_text())
        assert {summary[key] for key in tune.HIDDEN} == {"nan"}
        assert {last(run)[key] for key in tune.HIDDEN} == {"nan"}
        assert float(last(run)["train_accuracy"]) > 0


def test_every_measure_is_hidden_unless_no_test_sample_is_in_it():
    seen = {"train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "consensus_distance"}
    assert {*Evaluation._fields} - {*tune.HIDDEN} == seen


def test_the_table_of_a_tuning_is_shown_again_and_not_one_of_tests_that_were_not_taken(tuned):
    result, _, out = tuned
    again = byzax("show", out)
    assert again.exit_code == 0, again.output
    assert again.stdout.strip()
    assert result.stdout.startswith(again.stdout)
    assert not list(out.glob("summary*"))


@pytest.mark.slow
def test_an_interrupted_tuning_keeps_its_runs_and_chooses_nothing(tmp_path):
    out = tmp_path / "out"
    path = write(tmp_path, steps=30000, evaluate_every=10)
    over = "optimizer.learning_rate=[0.1, 0.2]"
    process = command("tune", path, "--over", over, "--out", out)
    metrics, limit = out / "runs" / "average_none_learning-rate-0.1_seed-0" / "metrics.csv", time.monotonic() + 120
    while time.monotonic() < limit and not (metrics.exists() and len(metrics.read_text().splitlines()) > 4):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "interrupted: what is done is kept" in stderr
    assert "nothing is chosen" in stderr
    assert re.search(r"0\.1 +- +0 of 1", stdout)
    assert (out / "tune.csv").exists()
    assert not list(out.glob("tuned*"))


def test_the_chosen_scenario_is_run_for_its_test_numbers(tuned, tmp_path):
    _, _, out = tuned
    result = byzax("run", out / "tuned.yaml", "--set", "repeats=1", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert re.search(r"average .*0\.\d\d\d", result.stdout)


def test_a_combination_that_lacks_a_run_is_not_chosen(tuned, tmp_path):
    _, path, out = tuned
    shutil.copytree(out, tmp_path / "out")
    planned = tune.plan_tuning(path, [], OVER[1:], [], None)
    rows = tune.tried_combinations(tmp_path / "out", planned)
    assert [row.best for row in rows] == [False, True, False]
    for run in (tmp_path / "out").glob("runs/*learning-rate-1_seed-1"):
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps(summary | {"status": "failed"}))
    rows = tune.tried_combinations(tmp_path / "out", planned)
    assert [row.counted for row in rows] == [4, 2, 4]
    assert [np.isnan(row.mean) for row in rows] == [False, True, False]
    assert [row.best for row in rows].count(True) == 1
    assert not rows[1].best
    # by the loss the smallest is chosen, and each group has one of its own
    by_loss = tune.tried_combinations(out, tune.plan_tuning(path, [], OVER[1:], ["rule.name"], "validation_loss"))
    assert [row.each["rule.name"] for row in by_loss] == ["average"] * 3 + ["median"] * 3
    assert [row.best for row in by_loss] == [False, True, False] * 2
    assert by_loss[1].mean < by_loss[2].mean < by_loss[0].mean


LABELS = """
import numpy as np
from byzax.simulator.data.base import dataset


def mine():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    x = rng.normal(size=(400, 6)) + 2 * np.eye(6)[y]
    test = np.arange(300, 400)
    y[test] = (y[test] + {flipped}) % 4
    return dataset(x, y, 4, test)
"""


@pytest.mark.slow
def test_other_test_labels_change_nothing(tmp_path):
    said = []
    path = write(tmp_path, data={"name": f"{tmp_path / 'labels.py'}:mine", "batch_size": 8}, repeats=2)
    for flipped in (0, 1):
        (tmp_path / "labels.py").write_text(LABELS.format(flipped=flipped))
        out = tmp_path / "out"
        result = byzax("tune", path, *OVER, "--out", out)
        assert result.exit_code == 0, result.output
        digests = [json.loads(each.read_text()).pop("digest") for each in sorted(out.glob("runs/*/summary.json"))]
        files = [*sorted(out.glob("tune*")), *sorted(out.glob("runs/*/updates.csv"))]
        said.append(([each.read_text() for each in files], result.stdout, digests))
        shutil.rmtree(out)
    assert said[0][:2] == said[1][:2]
    # the labels really were others
    assert said[0][2] != said[1][2]
    assert "which are others' validation samples" not in result.stderr


SETTLED = [
    # the scenario, what is chosen, what it becomes
    (
        {"rule": "krum", "grid": {"rule.name": ["krum", "median"], "optimizer.learning_rate": [1, 2]}},
        {"optimizer.learning_rate": 2},
        {"rule": "krum", "optimizer": {"name": "sgd", "learning_rate": 2}, "grid": {"rule.name": ["krum", "median"]}},
    ),
    (
        {"rule": "krum", "grid": {"rule.name": ["krum", "median"], "optimizer.momentum": [0, 0.9]}},
        {"optimizer.momentum": 0.9, "rule.name": "median"},
        {"rule": {"name": "median"}, "optimizer": {"name": "sgd", "momentum": 0.9}},
    ),
    # an option of a part that is still swept
    (
        {"rule": "krum", "grid": {"rule.name": ["krum"], "rule.distance": ["plain", "squared"]}},
        {"rule.distance": "plain"},
        {"rule": "krum", "grid": {"rule.name": ["krum"], "rule.distance": ["plain"]}},
    ),
    (
        {"rule": "krum", "grid": {"optimizer.learning_rate.start": [1, 2], "optimizer.learning_rate": ["cosine"]}},
        {"optimizer.learning_rate": "cosine", "optimizer.learning_rate.start": 2},
        {"rule": "krum", "optimizer": {"name": "sgd", "learning_rate": {"name": "cosine", "start": 2}}},
    ),
]


@pytest.mark.parametrize(("raw", "chosen", "expected"), SETTLED)
def test_what_is_chosen_takes_the_place_of_the_sweep(raw, chosen, expected):
    before = repr(raw)
    assert tune.replace_sweeps(raw, chosen) == expected
    assert repr(raw) == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["optimizer.learning_rate=[0.01, 0.03, 0.1, 0.3, 1]", "optimizer.momentum=[0.0, 0.9]"]),
        ({"optimizer": "adam"}, ["optimizer.learning_rate=[0.0001, 0.0003, 0.001, 0.003, 0.01]"]),
        (
            {"optimizer": {"name": "adam", "learning_rate": {"name": "cosine", "start": 1.0}}},
            ["optimizer.learning_rate.start=[0.1, 0.3, 1, 3, 10]"],
        ),
        (
            {"local": {"steps": 2, "learning_rate": 0.2}},
            ["local.learning_rate=[0.02, 0.06, 0.2, 0.6, 2]", "optimizer.momentum=[0.0, 0.9]"],
        ),
        (
            {"local": {"steps": 2, "optimizer": "adam"}, "optimizer": "yogi"},
            ["local.optimizer.learning_rate=[0.0001, 0.0003, 0.001, 0.003, 0.01]"],
        ),
    ],
)
def test_without_a_word_about_it_rates_around_the_scenarios_are_tried(tmp_path, changes, expected):
    assert tune.default_sweeps(small(**changes)) == expected
    planned = tune.plan_tuning(write(tmp_path, **changes), [], [], [], None)
    assert len(planned.expansion.cells) == 5 * (2 if "momentum" in expected[-1] else 1)
    assert all(isinstance(cell, Cell) for cell in planned.expansion.cells)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--over", "optimizer.learning_rate"], "--over optimizer.learning_rate: values are needed"),
        (
            ["--over", "optimizer.lerning_rate=[1]"],
            "optimizer.lerning_rate: unknown key; did you mean 'learning_rate'?",
        ),
        (["--over", "optimizer.learning_rate=1"], "grid.optimizer.learning_rate"),
        (["--over", "optimizer.learning_rate=[-1, 1]"], "optimizer.learning_rate: must be greater than 0"),
        (["--over", "seed=[0, 1]"], "--over seed: decides which samples the choice is made by, so"),
        (["--over", "seed=[0, 1]"], "cannot be compared: for more seeds use repeats"),
        ([*OVER, "--over", "data.validation=[0.1, 0.2]"], "--over data.validation: decides which samples"),
        (["--over", "data.test=[0.1, 0.2]"], "cannot be compared: tune each by itself, with --set"),
        (["--over", "data=[digits, diabetes]"], "--over data: decides"),
        ([*OVER, *OVER], "--over optimizer.learning_rate: is given twice"),
        (["--each", "rule.name"], "--each rule.name: is no key of the grid of"),
        (["--set", "data.validation=0.0"], "data.validation is 0: there are no samples to choose by"),
        (["--over", "rule.name=[krum, median]", "--set", "workers.byzantine=3"], "rule: krum needs n >= 2f + 3"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, said):
    out = tmp_path / "out"
    refused(byzax("tune", write(tmp_path), "--out", out, *arguments), said)
    assert not out.exists()


def test_what_byzax_wrote_there_is_overwritten_and_a_tuned_file_of_ones_own_is_not(tuned, tmp_path):
    _, path, out = tuned
    shutil.copytree(out, tmp_path / "out")
    again = byzax("tune", path, *OVER, "--out", tmp_path / "out")
    assert again.exit_code == 0, again.output
    assert "of 12 runs 12 there already" in again.stderr
    # its runs have no test numbers
    refused(byzax("run", path, "--out", tmp_path / "out"), "is used already")
    refused(byzax("run", path, "--out", tmp_path / "out", "--overwrite"), "holds a tuning")
    refused(byzax("tune", tmp_path / "out" / "tuned.yaml", *OVER, "--out", tmp_path / "out", "--overwrite"), "remove a")
