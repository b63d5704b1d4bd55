"""The data sets that need no files, and the split by seed."""

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from byzax.options import OptionError
from byzax.simulator import data
from byzax.simulator.data import Dataset, _shipped
from tests.data.conftest import file_of

FOLDER = Path(inspect.getfile(data)).parent
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "base" and not file.stem.startswith("_"))


def made(samples, official=None):
    test = None if official is None else np.arange(samples - official, samples)
    return Dataset(np.zeros((samples, 1), np.float32), np.zeros(samples, np.int32), 2, test)


def test_digits_are_those_of_scikit_learn_in_unit_scale():
    digits = data.build("digits")
    assert digits.x.shape == (1797, 8, 8)
    assert (digits.x.dtype, digits.y.dtype, digits.classes) == (np.float32, np.int32, 10)
    assert (digits.x.min(), digits.x.max()) == (0, 1)
    assert digits.y[:10].tolist() == list(range(10))
    assert data.build("digits").x is digits.x
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    np.testing.assert_array_equal(digits.x.reshape(-1, 64), (images / 16).astype(np.float32))
    np.testing.assert_array_equal(digits.y, labels)


def test_gaussian_mixture_has_clusters_at_the_stated_distance():
    mixture = data.build("gaussian_mixture", samples=20_000, shape=(30,), classes=4, separation=3.0, sample_seed=1)
    assert np.bincount(mixture.y).tolist() == [5000] * 4
    for label in range(4):
        cluster = mixture.x[mixture.y == label]
        # |mean| estimates the separation with a variance of about features / samples
        assert np.linalg.norm(cluster.mean(axis=0)) == pytest.approx(3.0, abs=0.1)
        np.testing.assert_allclose(cluster.std(axis=0), 1, atol=0.06)


def test_gaussian_mixture_depends_on_its_seed_alone():
    first = data.build("gaussian_mixture", samples=50, sample_seed=1)
    file_of("gaussian_mixture")._generate.cache_clear()
    np.testing.assert_array_equal(data.build("gaussian_mixture", samples=50, sample_seed=1).x, first.x)
    assert not np.array_equal(data.build("gaussian_mixture", samples=50, sample_seed=2).x, first.x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 5}, "samples must be at least classes = 10, got 5"),
        ({"shape": (0,)}, r"shape must be at least 1, got \(0,\)"),
        ({"shape": ()}, "shape must have at least one value"),
        ({"samples": 10**6, "shape": (2000,)}, "samples must be at most 500000 with 2000 numbers each"),
    ],
)
def test_gaussian_mixture_refuses_impossible_sizes(options, message):
    with pytest.raises(OptionError, match=f"^gaussian_mixture: {message}"):
        data.build("gaussian_mixture", **options)


def test_a_shape_may_be_a_list():
    assert data.build("gaussian_mixture", samples=50, shape=[3, 2]).x.shape == (50, 3, 2)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "first"), [("breast_cancer", (569, 30), 2, 17.99), ("diabetes", (442, 10), None, 59)]
)
def test_what_ships_with_scikit_learn_comes_as_it_was_measured(name, shape, classes, first):
    found = data.build(name)
    assert (found.x.shape, found.classes) == (shape, classes)
    assert found.x[0, 0] == np.float32(first)
    assert data.build(name).x is found.x
    other = {"scaled": False} if classes is None else {}
    x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True, **other)
    np.testing.assert_array_equal(found.x, x.astype(np.float32))
    np.testing.assert_array_equal(found.y, (y if classes else y / 100).astype(found.y.dtype))


def test_what_ships_with_scikit_learn_is_read_without_importing_it():
    code = "import sys; from byzax.simulator import data; data.digits(), data.diabetes(), data.breast_cancer()"
    done = subprocess.run([sys.executable, "-c", f"{code}; print('sklearn' in sys.modules)"], capture_output=True)
    assert done.stdout.split() == [b"False"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing: install scikit-learn anew"), (b"1,2\n3,x\n", "is damaged"), (b"\x1f\x8bno", "is a damaged")],
)
def test_a_file_of_scikit_learn_that_is_missing_or_damaged_is_named(tmp_path, monkeypatch, content, message):
    there = tmp_path / "sklearn" / "datasets" / "data"
    there.mkdir(parents=True)
    if content is not None:
        (there / "digits.csv.gz").write_bytes(content)
    found = SimpleNamespace(origin=str(tmp_path / "sklearn" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(data.DataError, match=f"^{re.escape(str(there / 'digits.csv.gz'))} {message}"):
        _shipped.read_shipped("digits.csv.gz")


def test_data_of_scikit_learn_without_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(data.DataError, match="pip install scikit-learn"):
        _shipped.read_shipped("digits.csv.gz")


def test_values_of_diabetes_are_in_hundreds():
    np.testing.assert_allclose(data.build("diabetes").y[:5], [1.51, 0.75, 1.41, 2.06, 1.35], rtol=1e-6)


@pytest.mark.parametrize("condition", [1.0, 100.0])
def test_linear_regression_has_the_noise_and_the_condition_number_asked_for(condition):
    made = data.build("linear_regression", samples=20_000, features=5, condition=condition, noise=0.5)
    x, y = made.x.astype(np.float64), made.y.astype(np.float64)
    _, squares, _, values = np.linalg.lstsq(x, y)
    assert squares[0] / 20_000 == pytest.approx(0.25, rel=0.05)
    assert (values[0] / values[-1]) ** 2 == pytest.approx(condition, rel=0.1)
    assert (made.classes, made.y.dtype, made.test) == (None, np.float32, None)


def test_linear_regression_without_noise_is_linear():
    made = data.build("linear_regression", samples=50, features=3, noise=0.0)
    weights = np.linalg.lstsq(made.x.astype(np.float64), made.y)[0]
    np.testing.assert_allclose(made.x @ weights, made.y, atol=1e-5)


def by_device(made):
    return [made.x[made.owners == device].astype(np.float64) for device in np.unique(made.owners)]


def test_devices_of_synthetic_data_have_50_samples_or_more_in_lognormal_numbers():
    made = data.build("synthetic_alpha_beta", devices=300, features=2)
    counts = np.bincount(made.owners)
    assert (len(counts), counts.min()) == (300, 50)
    # of the number without the 50: median e^4, and the deviation of its logarithm 2, where it is not cut to 0 or so
    assert np.median(counts) - 50 == pytest.approx(np.exp(4), rel=0.35)
    large = np.log(np.sort(counts)[150:] - 50)
    assert np.sqrt(np.mean((large - 4) ** 2)) == pytest.approx(2, rel=0.2)


def test_features_of_synthetic_data_have_a_spread_that_falls_as_j_to_the_minus_0_6():
    made = data.build("synthetic_alpha_beta", devices=30, features=20)
    within = np.concatenate([mine - mine.mean(axis=0) for mine in by_device(made)]).std(axis=0)
    np.testing.assert_allclose(within, np.arange(1, 21) ** -0.6, rtol=0.05)


@pytest.mark.parametrize("beta", [0.0, 3.0])
def test_beta_is_the_deviation_of_the_devices_centres(beta):
    made = data.build("synthetic_alpha_beta", devices=200, features=40, beta=beta)
    # the mean of v_k over features has the variance beta² + 1/40, not beta + 1/40
    centres = [mine.mean() for mine in by_device(made)]
    assert np.var(centres) == pytest.approx(beta**2 + 1 / 40, rel=0.25)


@pytest.mark.parametrize("alpha", [0.0, 4.0])
def test_alpha_shifts_all_weights_of_a_device_alike_which_no_label_shows(alpha):
    # u_k is added to every entry of W_k and b_k: to all logits of a sample the same
    made = data.build("synthetic_alpha_beta", devices=5, features=6, alpha=alpha, sample_seed=3)
    same = data.build("synthetic_alpha_beta", devices=5, features=6, alpha=0.0, sample_seed=3)
    np.testing.assert_array_equal(made.x, same.x)
    assert (made.y == same.y).mean() > 0.99


def test_iid_devices_share_one_model_and_others_do_not():
    def share_of_one_model(iid):
        from sklearn.linear_model import LogisticRegression

        made = data.build("synthetic_alpha_beta", devices=20, features=4, classes=3, alpha=0, beta=0, iid=iid)
        fitted = LogisticRegression(max_iter=200).fit(made.x, made.y)
        return fitted.score(made.x, made.y)

    assert share_of_one_model(True) > 0.95
    assert share_of_one_model(False) < 0.8


@settings(deadline=None)
@given(
    samples=st.integers(5, 200),  # with 4, two shares of 0.375 are all of them, and refused
    validation=st.floats(0, 0.4),
    test=st.floats(0.01, 0.4),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_is_disjoint_covers_the_pool_and_is_repeatable(samples, validation, test, seed):
    parts = data.split(made(samples), np.random.default_rng(seed), validation, test)
    assert sorted(np.concatenate(parts).tolist()) == list(range(samples))
    assert len(parts.validation) == (max(1, round(validation * samples)) if validation else 0)
    assert len(parts.test) == max(1, round(test * samples))
    assert len(parts.train) > 0
    again = data.split(made(samples), np.random.default_rng(seed), validation, test)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_another_seed_splits_differently():
    splits = [data.split(made(100), np.random.default_rng(seed), 0.1, 0.2).test.tolist() for seed in (0, 1)]
    assert splits[0] != splits[1]


def test_official_test_samples_stay_what_they_are():
    parts = data.split(made(100, official=20), np.random.default_rng(0), 0.25, 0.9)
    assert parts.test.tolist() == list(range(80, 100))
    assert len(parts.validation) == 20
    assert sorted([*parts.train, *parts.validation]) == list(range(80))


@pytest.mark.parametrize(
    ("samples", "official", "validation", "test", "message"),
    [
        (10, None, 0.5, 0.5, "no training samples: they take 10 of 10"),
        (2, None, 0.1, 0.1, "no training samples: they take 2 of 2"),
        (10, None, 0.1, 0.0, "test must be above 0"),
        (10, None, 1.0, 0.1, "0 <= validation < 1, got 1.0"),
        (10, 3, 0.1, -0.1, "0 <= test < 1, got -0.1"),
        (10, 9, 0.5, 0.2, "no training samples"),
    ],
)
def test_an_impossible_split_is_refused(samples, official, validation, test, message):
    with pytest.raises(ValueError, match=message):
        data.split(made(samples, official), np.random.default_rng(0), validation, test)


def test_every_file_of_the_folder_is_a_data_set_that_is_found():
    assert {"digits", "mnist", "cifar10", "csv", "gaussian_mixture"} <= set(SHIPPED) <= set(data.available())
    assert not any(name.startswith("_") for name in data.available())


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match=r"unknown data set 'mnits'; did you mean 'mnist'\? known: .*digits"):
        data.build("mnits")


def test_a_test_set_of_owners_has_all_their_samples_and_nobody_elses():
    made = data.build("synthetic_alpha_beta", devices=20)
    parts = data.split(made, np.random.default_rng(0), validation=0.1, test=0.25, by="owners")
    owners = [set(made.owners[positions].tolist()) for positions in parts]
    assert len(owners[2]) == 5
    assert not owners[2] & (owners[0] | owners[1])
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(made.y)))
    assert len(parts.validation) == round(0.1 * (len(made.y) - len(parts.test)))
    again = data.split(made, np.random.default_rng(1), validation=0.1, test=0.25, by="owners")
    assert set(made.owners[again.test].tolist()) != owners[2]


@pytest.mark.parametrize(
    ("made", "validation", "test", "expected"),
    [
        (("gaussian_mixture", {}), 0.1, 0.2, "needs data that has an owner for each sample"),
        (("synthetic_alpha_beta", {"devices": 2}), 0.1, 0.9, "leaves none of 2 owners for training"),
        (("synthetic_alpha_beta", {"devices": 2}), 0.999, 0.5, "leaves none of"),
    ],
)
def test_a_test_set_of_owners_that_cannot_be_drawn_is_refused(made, validation, test, expected):
    name, options = made
    with pytest.raises(ValueError, match=expected):
        data.split(data.build(name, **options), np.random.default_rng(0), validation, test, by="owners")
