"""Studies whose data has values in place of classes: measured by the loss, in tables, plots and what is printed."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from byzax.experiments import report, tables
from byzax.experiments.plots import draw_scores
from byzax.experiments.report import _styled
from byzax.experiments.reported import report_values
from byzax.experiments.scores import LOSS
from tests.experiments.command import byzax, write
from tests.models.test_models import NET

REGRESSION = {"data": {"name": "slope", "batch_size": 4}, "model": "linear"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regression")
    grid = {"rule.name": ["average", "median"], "attack": ["none", {"name": "sign_flip", "scale": 10.0}]}
    result = byzax("run", write(folder, repeats=2, grid=grid, **REGRESSION), "--out", folder / "out")
    assert result.exit_code == 0, result.output
    return folder / "out", result


def test_a_study_of_regressions_is_told_by_its_loss(study):
    folder, result = study
    told = json.loads((folder / "runs" / "median_none_seed-0" / "summary.json").read_text())
    assert told["classes"] is None
    assert told["test_accuracy"] == "nan"
    last = result.stderr.splitlines()[-2]
    assert last.startswith("[8/8] median, sign_flip scale=10, seed 1: test loss ")
    assert "accuracy" not in result.stdout + result.stderr
    page = (folder / "summary.md").read_text()
    assert "final test loss, range over 2 seeds; 2 seeds cannot rank 2 rules" in page
    frame = report.read([folder]).frame
    final = frame.loc[(frame["rule"] == "median") & (frame["attack"] == "none"), "test_loss"]
    assert f"{final.min():.4g} to {final.max():.4g}" in page
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        ".byzax", ".byzax-lock", "scenario.yaml", "summary.csv", "tables.csv", "tables.tex", "summary.md", "loss.png",
        "loss.svg",
    }  # fmt: skip
    drawn = (folder / "loss.svg").read_text()
    assert "test loss" in drawn
    assert "chance" not in drawn


def test_a_regression_replays_to_the_bit_though_its_accuracies_are_no_numbers(study):
    folder, _ = study
    result = byzax("replay", folder / "runs" / "median_none_seed-0")
    assert result.exit_code == 0, result.output


def test_a_study_can_be_run_again_in_its_place(study, tmp_path):
    file = write(tmp_path, **REGRESSION)
    for options in ((), ("--overwrite",)):
        assert byzax("run", file, "--out", tmp_path / "out", *options).exit_code == 0


@pytest.mark.slow
def test_regressions_and_classifiers_of_one_study_have_tables_and_plots_of_their_own(tmp_path):
    grid = {"data": [{"name": "digits", "batch_size": 4}, {"name": "slope", "batch_size": 4}]}
    result = byzax("run", write(tmp_path, model="mlp", grid=grid), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "summary.md").read_text()
    assert page.index("final test accuracy, seed 0.") < page.index("final test loss, seed 0.")
    assert [path.name.partition("_")[0] for path in sorted((tmp_path / "out").glob("*.png"))] == ["accuracy", "loss"]


LOSSES = {
    "a": (0.5, 0.7, 0.6, 0.5, 0.7, 0.6),
    "b": (0.1, np.nan, 0.1, 0.1, 0.1, 0.1),
    "c": (0.2, 0.1, 0.15, 0.2, 0.1, 0.15),
    "d": (np.inf, 1e9, 1, 1, 1, 1),
}


def table_of():
    frame = pd.DataFrame(
        {
            "run": f"{rule}-{seed}", "rule": rule, "attack": "none", "seed": seed, "status": "complete",
            "study": "small", "of": 6, "classes": np.nan, "test_accuracy": np.nan, "test_loss": loss,
        }
        for rule, losses in LOSSES.items()
        for seed, loss in enumerate(losses)
    )  # fmt: skip
    return frame, tables.table("losses", "test loss", frame, report_values(frame, frame, LOSS, "last"), LOSS)


def test_the_best_loss_is_the_lowest_and_a_loss_that_is_no_number_is_no_small_one():
    _, made = table_of()
    _, rows = tables.text_rows(made)
    assert rows == [["a", "0.6 ± 0.08944"], ["b", "not finite"], ["c", "0.15 ± 0.04472"], ["d", "not finite"]]
    assert [str(row[1].style) for row in _styled(made, rows)] == [
        "",
        "red",
        "bold green",
        "red",
    ]


def curves_of(losses):
    frame = pd.DataFrame(
        {
            "study": "small", "run": str(i), "line": "krum", "attack": "none", "seed": i, "status": "complete",
            "of": len(losses), "test_loss": values[-1],
        }
        for i, values in enumerate(losses)
    )  # fmt: skip
    curves = pd.DataFrame(
        {
            "run": str(i), "line": "krum", "attack": "none", "seed": i, "status": "complete", "classes": None,
            "step": 10 * step, "test_accuracy": np.nan, "test_loss": value,
        }
        for i, values in enumerate(losses)
        for step, value in enumerate(values)
    )  # fmt: skip
    return draw_scores(frame, curves, ["krum"], []).axes[0]


def test_a_loss_that_falls_far_is_drawn_over_a_logarithmic_axis_and_one_that_does_not_from_zero():
    assert curves_of([[4.0, 1.0, 0.01]]).get_yscale() == "log"
    axes = curves_of([[4.0, 3.0, 2.0]])
    assert (axes.get_yscale(), axes.get_ylim()[0]) == ("linear", 0)


def test_one_run_that_explodes_does_not_flatten_the_others_and_one_that_diverges_is_marked_where_it_did():
    axes = curves_of([[4.0, 1e30], [4.0, 2.0]])
    assert axes.get_ylim()[1] == pytest.approx(48)
    axes = curves_of([[4.0, np.nan], [4.0, 2.0]])
    mean, mark = axes.lines[:2]
    np.testing.assert_array_equal(mean.get_ydata(), [4, np.nan])
    assert (mark.get_marker(), list(mark.get_xdata()), list(mark.get_ydata())) == ("v", [10], [1])


@pytest.mark.slow
def test_the_record_of_a_run_holds_what_the_users_own_model_was(tmp_path):
    model = {"name": "module", "path": f"{NET}:Linen"}
    result = byzax("run", write(tmp_path, model=model, steps=1), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (versions,) = (tmp_path / "out").glob("runs/*/versions.json")
    (noted,) = json.loads(versions.read_text())["own_files"]
    assert noted == {"key": "model", "file": NET, "sha256": sha256(Path(NET).read_bytes()).hexdigest()}
    result = byzax("run", write(tmp_path, model={"name": "module", "path": "none.py:Net"}), "--out", tmp_path / "no")
    assert result.exit_code == 2
    assert "small.yaml: model: there is no file none.py" in result.stderr
