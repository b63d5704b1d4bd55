"""The data sets that need no files, and the split by seed."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import data
from simulator.data import Dataset

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


def test_gaussian_mixture_has_clusters_at_the_stated_distance():
    mixture = data.build("gaussian_mixture", samples=20_000, shape=(30,), classes=4, separation=3.0, seed=1)
    assert np.bincount(mixture.y).tolist() == [5000] * 4
    for label in range(4):
        cluster = mixture.x[mixture.y == label]
        # |mean| estimates the separation with a variance of about features / samples
        assert np.linalg.norm(cluster.mean(axis=0)) == pytest.approx(3.0, abs=0.1)
        np.testing.assert_allclose(cluster.std(axis=0), 1, atol=0.06)


def test_gaussian_mixture_depends_on_its_seed_alone():
    first = data.build("gaussian_mixture", samples=50, seed=1)
    data.factory("gaussian_mixture").cache_clear()  # pyright: ignore[reportFunctionMemberAccess]
    np.testing.assert_array_equal(data.build("gaussian_mixture", samples=50, seed=1).x, first.x)
    assert not np.array_equal(data.build("gaussian_mixture", samples=50, seed=2).x, first.x)


@pytest.mark.parametrize(
    "options", [{"classes": 1}, {"samples": 5}, {"shape": (0,)}, {"shape": ()}, {"separation": -1.0}]
)
def test_gaussian_mixture_refuses_impossible_sizes(options):
    with pytest.raises(ValueError, match="gaussian_mixture needs"):
        data.build("gaussian_mixture", **options)


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


@pytest.mark.parametrize("name", SHIPPED)
def test_options_are_typed_keywords_and_docstrings_hold_their_lines(name):
    for option in inspect.signature(data.factory(name), eval_str=True).parameters.values():
        assert option.kind is option.KEYWORD_ONLY
        assert option.annotation is not option.empty
        # where the files of a person are, nobody can know
        assert option.default is not option.empty or option.name in {"path", "target"}
    lines = (inspect.getdoc(data.factory(name)) or "").splitlines()
    for field in ("Samples", "Source"):
        assert sum(line.startswith(f"{field}: ") for line in lines) == 1, field


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match=r"unknown data set 'mnits': did you mean 'mnist'\? available: .*digits"):
        data.build("mnits")
