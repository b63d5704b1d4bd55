"""Measures besides losses and accuracies: `measure` of a scenario."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

import byzax
from byzax.experiments.scores import score_named
from byzax.simulator.config.measures import MEASURE_COLUMNS, BalancedAccuracy, FlipSuccess, WorkerAccuracy, recalls
from byzax.simulator.mistakes import ScenarioError
from tests.experiments.command import SMALL, write
from tests.experiments.command import byzax as command

FLIP = {"name": "flip_success", "source": 7, "target": 1}
ALL = ["balanced_accuracy", "class_accuracy", "confusion", "worker_accuracy", FLIP]
SKEWED = {"name": "digits", "batch_size": 8, "partition": {"name": "dirichlet", "alpha": 0.3}}


def counts(labels, predicted, classes):
    whole = np.zeros((classes, classes + 1), int)
    np.add.at(whole, (labels, predicted), 1)
    return whole


@pytest.fixture
def judged():
    """Labels of which one is missing, and predictions of which some are none (the number of classes)."""
    random = np.random.default_rng(0)
    labels = random.choice([0, 1, 3, 4], 400, p=[0.6, 0.2, 0.15, 0.05])
    return labels, np.where(random.random(400) < 0.6, labels, random.integers(0, 6, 400))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_is_that_of_scikit_learn(judged):
    labels, predicted = judged
    (found,) = BalancedAccuracy().values(counts(labels, predicted, 5), np.ones((1, 5)))
    assert found == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_worker_accuracy_is_the_accuracy_where_all_have_the_test_samples_labels(judged):
    labels, predicted = judged
    shares = np.tile(np.bincount(labels, minlength=5) / len(labels), (3, 1))
    mean, worst = WorkerAccuracy().values(counts(labels, predicted, 5), shares)
    assert mean == pytest.approx((labels == predicted).mean())
    assert worst == pytest.approx(mean)


def test_the_worst_tenth_of_workers_are_those_with_the_labels_that_the_model_gets_wrong(judged):
    labels, predicted = judged
    confusion = counts(labels, predicted, 5)
    known = recalls(confusion)
    # of 11 workers two are the worst tenth: each has one label, and label 2 has no test sample
    shares = np.eye(5)[[0, 1, 3, 4, 0, 1, 3, 4, 0, 1, 2]]
    mean, worst = WorkerAccuracy().values(confusion, shares)
    each = np.array([known[label] for label in (0, 1, 3, 4, 0, 1, 3, 4, 0, 1)])
    assert mean == pytest.approx(each.mean())
    assert worst == pytest.approx(np.sort(each)[:1].mean())
    assert np.isnan(WorkerAccuracy().values(confusion, np.eye(5)[[2]])).all()


def test_flip_success_counts_the_samples_of_the_source_alone(judged):
    labels, predicted = judged
    success, source, target = FlipSuccess(source=1, target=0).values(counts(labels, predicted, 5), np.ones((1, 5)))
    assert success == pytest.approx((predicted[labels == 1] == 0).mean())
    assert source == pytest.approx((predicted[labels == 1] == 1).mean())
    assert target == pytest.approx((predicted[labels == 0] == 0).mean())
    assert np.isnan(FlipSuccess(source=2, target=0).values(counts(labels, predicted, 5), np.ones((1, 5)))[0])


@pytest.mark.parametrize("executor", ["loop", "vectorised", pytest.param("ray", marks=pytest.mark.slow)])
def test_measures_agree_with_the_accuracy_of_every_evaluation(executor):
    flip = {"name": "label_flip", "labels": "targeted", "source": 7, "target": 1}
    result = byzax.run(
        {**SMALL, "data": SKEWED, "executor": executor, "grid": {"attack": ["none", flip]}}, measure=ALL, quiet=True
    )
    metrics, classes = result.metrics, result.classes
    assert [name for name in metrics if name in MEASURE_COLUMNS] == MEASURE_COLUMNS
    assert len(classes) == len(metrics) * 10
    for name, matrix in result.confusion.items():
        run = metrics.loc[metrics["run"] == name].iloc[-1]
        assert np.trace(matrix[:, :-1]) / matrix.sum() == pytest.approx(run["test_accuracy"], abs=1e-6)
        last = classes.loc[(classes["run"] == name) & (classes["step"] == run["step"]), "accuracy"].to_numpy()
        np.testing.assert_allclose(last, np.diagonal(matrix) / matrix.sum(axis=1))
        assert run["balanced_accuracy"] == pytest.approx(last.mean())
        assert run["flip_success"] == pytest.approx(matrix[7, 1] / matrix[7].sum())
    assert result.runs["flip_success"].notna().all(), "the run without attack gives the floor"
    by_measure = result.summary("worst_workers_accuracy")
    assert by_measure["mean"].tolist() == result.runs["worst_workers_accuracy"].tolist()
    assert (result.runs["worst_workers_accuracy"] <= result.runs["worker_accuracy"]).all()


def test_the_confusion_matrix_is_that_of_scikit_learn_on_the_models_predictions():
    result = byzax.run(SMALL, measure="confusion", data=SKEWED, quiet=True)
    assert result.runs["digest"].tolist() == byzax.run(SMALL, data=SKEWED, quiet=True).runs["digest"].tolist()
    run = byzax.describe({**SMALL, "data": SKEWED}).run
    from byzax.simulator.core import model_of
    from byzax.simulator.world import scaled_samples, world

    here, (params,) = world(run), result.params.values()
    outputs = model_of(run.model, run.data).predict(params, scaled_samples(here, here.test))
    expected = confusion_matrix(here.y[here.test], np.argmax(outputs, axis=1), labels=range(10))
    (found,) = result.confusion.values()
    np.testing.assert_array_equal(found[:, :-1], expected)
    assert not found[:, -1].any()


@pytest.mark.filterwarnings("ignore:.*diverged")
def test_a_model_of_no_numbers_predicts_nothing():
    infinite = {"name": "constant", "value": 1e38}
    result = byzax.run({**SMALL, "attack": infinite}, optimizer={"name": "sgd", "learning_rate": 1e6}, measure=ALL)
    (matrix,) = result.confusion.values()
    assert matrix[:, -1].sum() == matrix.sum()
    assert result.runs["balanced_accuracy"].tolist() == [0.0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"measure": "precision"}, "measure[0]: unknown measure 'precision'"),
        ({"measure": ["confusion", "confusion"]}, "measure: confusion stands there twice"),
        ({"measure": {"name": "flip_success", "source": 3, "target": 3}}, "target must be another label"),
        ({"measure": {"name": "flip_success", "source": 10}}, "flip_success has the label 10"),
        ({"measure": "confusion", "data": "slope", "model": "linear"}, "confusion needs labels"),
    ],
)
def test_measures_that_cannot_be_are_refused_before_anything_starts(changes, words):
    with pytest.raises(ScenarioError) as error:
        byzax.run({**SMALL, **changes})
    assert words in str(error.value)


def test_tables_have_what_was_measured_and_tuning_does_not_look_at_test_samples(tmp_path):
    path = write(tmp_path, measure=ALL, data={**SKEWED, "validation": 0.1}, repeats=2)
    done = command("run", path, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "summary.md").read_text()
    assert all(name.replace("_", " ") in page for name in MEASURE_COLUMNS)
    chosen = command("tune", path, "--over", "optimizer.learning_rate=[0.1,0.2]", "--out", tmp_path / "tuned")
    assert chosen.exit_code == 0, chosen.output
    for metrics in (tmp_path / "tuned" / "runs").glob("*/metrics.csv"):
        assert not set(MEASURE_COLUMNS) & set(pd.read_csv(metrics))
    assert not [*(tmp_path / "tuned" / "runs").glob("*/confusion.csv")]


def test_samples_whose_file_has_changed_are_measured_as_they_are_now(tmp_path):
    random, file = np.random.default_rng(0), tmp_path / "samples.npz"
    for classes in (2, 3):
        labels = random.integers(0, classes, 300)
        np.savez(file, x=random.normal(size=(300, 4)).astype(np.float32) + labels[:, None], y=labels)
        data = {"name": "arrays", "path": str(file), "batch_size": 4}
        result = byzax.run({**SMALL, "data": data}, measure="confusion", quiet=True)
        (matrix,) = result.confusion.values()
        assert matrix.shape == (classes, classes + 1)


def test_selection_says_how_often_byzantine_rows_were_chosen():
    result = byzax.run(SMALL, attack="zero", grid={"rule": ["average", "krum"]}, steps=6, quiet=True)
    found = result.selection.set_index("rule")
    weight = result.updates.groupby("rule")["byzantine_weight"]
    assert found["byzantine_weight"].to_dict() == pytest.approx(weight.mean().to_dict())
    assert found.loc["average", "byzantine_chosen"] == 1.0
    assert found.loc["krum", "byzantine_chosen"] == (weight.get_group("krum") > 0).mean()


def test_scores_know_what_is_better():
    better = {name: score_named(name).higher_is_better for name in (*MEASURE_COLUMNS, "test_loss", "attack_success")}
    assert better == {
        "balanced_accuracy": True, "worker_accuracy": True, "worst_workers_accuracy": True, "flip_success": False,
        "source_accuracy": True, "target_accuracy": True, "test_loss": False, "attack_success": False,
    }  # fmt: skip
