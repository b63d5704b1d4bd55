"""Changes without an effect on a whole run: the unit of samples, the numbers of labels, a row that is no number."""

import numpy as np
import pytest

from tests.nightly import by_day
from tests.simulator.conftest import run, small

N, CLASSES = 7, 4


def samples():
    """Samples in steps of 1/64, which a change of unit keeps exactly, and their labels."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(160) % CLASSES)
    x = 2 * rng.normal(size=(CLASSES, 5))[y] + rng.normal(size=(160, 5))
    return (np.round(64 * x) / 64).astype(np.float32), y


def last_of(tmp_path, x, y, **changes):
    """The last checkpoint of a run on these samples, with a model that starts at zero."""
    data = changes.pop("data", {})
    path = tmp_path / f"{abs(hash((x.tobytes(), y.tobytes())))}.npz"
    np.savez(path, x=x, y=y)
    model = {"name": "softmax", "initialiser": "zeros"}
    plain = {"steps": 5, "evaluate_every": 5, "workers": {"total": N, "byzantine": 1}, "model": model, **changes}
    return run(small(data={"name": "arrays", "path": str(path), "batch_size": 8, **data}, **plain))[-1]


@pytest.mark.slow
@pytest.mark.parametrize("normalise", ["unit", "standard", "per_feature"])
def test_the_unit_of_the_samples_changes_nothing_where_they_are_normalised(tmp_path, normalise):
    (x, y), data = samples(), {"normalise": normalise}
    one, other = (last_of(tmp_path, each, y, data=data, attack="little", rule="krum") for each in (x, 512 * x - 96))
    np.testing.assert_allclose(one.params, other.params, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.evaluation[:4], other.evaluation[:4], rtol=1e-4)


@pytest.mark.slow
def test_without_normalise_the_unit_is_the_users_matter(tmp_path):
    x, y = samples()
    one, other = (last_of(tmp_path, each, y, attack="none") for each in (x, 2 * x))
    assert not np.allclose(one.params, other.params, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "attack"),
    [
        ("krum", "little"),
        ("median", "sign_flip"),
        ("geometric_median", "min_max"),
        ("centered_clipping", "empire"),
        # which turns label i into the i-th from the end: only that order of labels can be turned round
        ("trimmed_mean", "label_flip"),
    ],
)
def test_other_numbers_for_the_labels_change_nothing_but_whose_outputs_are_whose(tmp_path, rule, attack):
    x, y = samples()
    numbers = np.arange(CLASSES)[::-1] if attack == "label_flip" else np.array([2, 0, 3, 1])
    one, other = (last_of(tmp_path, x, each, rule=rule, attack=attack) for each in (y, numbers[y]))
    np.testing.assert_allclose(one.evaluation[:4], other.evaluation[:4], rtol=1e-4)
    np.testing.assert_allclose(one.updates.aggregate_norm, other.updates.aggregate_norm, rtol=1e-4)
    # biases, then the matrix [features, classes]
    mine, renamed = (each.params.reshape(-1, CLASSES) for each in (one, other))
    np.testing.assert_allclose(mine, renamed[:, numbers], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "rule",
    by_day(["cge"], ("krum", "multi_krum", "geometric_median", "cge", "fltrust", "zeno", "brute", "monna", "smea")),
)
def test_a_run_with_a_row_of_nan_is_the_run_without_its_worker(rule):
    """A worker with rows of NaN, and one whose rows never come and are not waited for: models and states alike."""
    how = {
        "rule": rule, "steps": 6, "evaluate_every": 1, "optimizer": {"name": "sgd", "momentum": 0.9},
        "worker_momentum": 0.5,
    }  # fmt: skip
    bad = small(**how, attack="non_finite", workers={"total": N, "byzantine": 1})
    without = small(
        **how, attack="silent", schedule={"name": "synchronous", "quorum": N - 1},
        workers={"total": N, "byzantine": 1, "declared": 0},
    )  # fmt: skip
    for one, other in zip(run(bad), run(without), strict=True):
        np.testing.assert_allclose(one.params, other.params, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.updates.aggregate_norm, other.updates.aggregate_norm, rtol=1e-5)
