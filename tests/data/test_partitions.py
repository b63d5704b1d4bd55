"""What every partition promises, and what each says about its labels."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulator import partitions, registry

FOLDER = Path(inspect.getfile(partitions)).parent
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in ("__init__", "base"))


def labels_of(samples, classes, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(samples) % classes)


def parts_of(name, samples, workers, seed=0, /, **options):
    return partitions.build(name, **options)(samples, workers, np.random.default_rng(seed))


# each partition with options under which it deals out every sample
CASES = [
    ("iid", {}),
    ("dirichlet", {"alpha": 1.0}),
    ("dirichlet", {"alpha": 0.1}),
    ("dirichlet", {"alpha": 1.0, "self_balancing": False}),
    ("dirichlet", {"alpha": 10.0, "min_partition_size": 3}),
    ("by_label", {"labels": 2}),
    ("by_label", {"labels": 5}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
@settings(deadline=None, max_examples=30)
@given(
    workers=st.integers(1, 12), samples=st.integers(120, 300), classes=st.integers(5, 10), seed=st.integers(0, 2**32)
)
def test_parts_are_disjoint_cover_the_samples_and_depend_on_the_seed_alone(
    name, options, workers, samples, classes, seed
):
    # fewer slots than labels: by_label then leaves labels out, which has its own test
    assume(name != "by_label" or workers * options["labels"] >= classes)
    labels = labels_of(samples, classes, seed)
    parts = parts_of(name, labels, workers, seed, **options)
    assert len(parts) == workers
    assert min(map(len, parts)) >= options.get("min_partition_size", 1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(samples))
    assert all((np.diff(part) > 0).all() for part in parts)
    again = parts_of(name, labels, workers, seed, **options)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_another_seed_gives_other_parts(name, options):
    labels = labels_of(300, 10)
    first, second = (parts_of(name, labels, 6, seed, **options) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@settings(deadline=None)
@given(workers=st.integers(1, 50), extra=st.integers(0, 200))
def test_iid_shares_differ_by_at_most_one(workers, extra):
    sizes = [len(part) for part in parts_of("iid", labels_of(workers + extra, 3), workers)]
    assert max(sizes) - min(sizes) <= 1


def test_iid_does_not_follow_the_order_of_the_samples():
    parts = parts_of("iid", np.repeat(np.arange(10), 100), 10)
    assert all(len(np.unique(part // 100)) == 10 for part in parts)


@pytest.mark.parametrize("name", ["dirichlet", "by_label"])
def test_a_labels_samples_are_dealt_in_random_order(name):
    first = parts_of(name, np.zeros(1000, int), 2, **({"labels": 1} if name == "by_label" else {"alpha": 5.0}))[0]
    # neither a run of neighbours nor every second sample
    assert len(np.unique(np.diff(first))) > 3


def skew(labels, parts):
    """Mean distance between a worker's label frequencies and those of all samples: 0 for equal ones, up to 1."""
    overall = np.bincount(labels, minlength=10) / len(labels)
    return np.mean([np.abs(np.bincount(labels[part], minlength=10) / len(part) - overall).sum() / 2 for part in parts])


@pytest.mark.parametrize("self_balancing", [True, False])
def test_dirichlet_is_more_skewed_the_smaller_alpha_is(self_balancing):
    labels = labels_of(4000, 10)
    skews = [
        np.mean([skew(labels, parts_of("dirichlet", labels, 10, seed, alpha=alpha, self_balancing=self_balancing))
                 for seed in range(5)])
        for alpha in (0.05, 0.5, 5.0, 500.0)
    ]  # fmt: skip
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.6
    assert skews[-1] < 0.1


def test_dirichlet_shares_have_the_variance_of_the_distribution():
    # share of one worker ~ Beta(a, (m-1) a): variance (1/m)(1 - 1/m) / (m a + 1); alpha and 1/alpha differ by far
    labels, workers, alpha = np.zeros(10_000, int), 5, 0.5
    shares = [
        len(part) / 10_000
        for seed in range(200)
        for part in parts_of("dirichlet", labels, workers, seed, alpha=alpha, self_balancing=False)
    ]
    assert np.var(shares) == pytest.approx(0.2 * 0.8 / (workers * alpha + 1), rel=0.15)


def test_dirichlet_keeps_the_minimum_or_says_what_to_change():
    labels = labels_of(200, 10)
    assert min(map(len, parts_of("dirichlet", labels, 10, alpha=0.5, min_partition_size=10))) >= 10
    with pytest.raises(ValueError, match=r"no split of 200 samples over 50 .*raise alpha \(now 0.01\)"):
        parts_of("dirichlet", labels, 50, alpha=0.01, min_partition_size=4, self_balancing=False)


def test_self_balancing_gives_no_more_labels_to_a_worker_that_has_its_share():
    labels = np.repeat(np.arange(100), 10)
    sizes = [len(part) for part in parts_of("dirichlet", labels, 10, alpha=0.05)]
    assert max(sizes) < 100 + 10  # below the mean before the last label, which adds at most 10


@settings(deadline=None)
@given(workers=st.integers(1, 30), held=st.integers(1, 10), classes=st.integers(1, 10), seed=st.integers(0, 2**32 - 1))
def test_by_label_gives_every_worker_exactly_so_many_labels_in_balance(workers, held, classes, seed):
    assume(held <= classes)
    labels = labels_of(500, classes, seed)
    parts = parts_of("by_label", labels, workers, seed, labels=held)
    found = [np.unique(labels[part]) for part in parts]
    assert all(len(of_worker) == held for of_worker in found)
    holders = np.bincount(np.concatenate(found), minlength=classes)
    assert holders.max() - holders.min() <= 1
    # a label is given out completely or not at all
    given_out = np.bincount(labels[np.concatenate(parts)], minlength=classes)
    assert set(given_out[holders > 0]) <= set(np.bincount(labels)[holders > 0])
    assert given_out.sum() == np.bincount(labels)[holders > 0].sum()


def test_by_label_knows_labels_by_value_not_by_count():
    labels = np.repeat([3, 7, 9], 10)
    parts = parts_of("by_label", labels, 3, labels=1)
    assert sorted(int(np.unique(labels[part])[0]) for part in parts) == [3, 7, 9]


REFUSED = [
    ("iid", {}, 3, 4, "3 training samples are too few for 4 workers"),
    ("dirichlet", {}, 3, 4, "3 training samples are too few for 4 workers"),
    ("dirichlet", {"min_partition_size": 5}, 9, 2, "too few for 2 workers with at least 5 each: at most 1"),
    ("by_label", {}, 3, 4, "3 training samples are too few for 4 workers"),
    ("by_label", {"labels": 4}, 30, 4, "cannot give 4 labels to each worker: the data has 3"),
    ("by_label", {"labels": 3}, 6, 5, "2 samples for 5 workers"),
    ("iid", {}, 3, 0, "workers >= 1"),
]


@pytest.mark.parametrize(("name", "options", "samples", "workers", "message"), REFUSED)
def test_samples_that_do_not_suffice_are_refused(name, options, samples, workers, message):
    with pytest.raises(ValueError, match=message):
        parts_of(name, labels_of(samples, 3), workers, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dirichlet", {"alpha": 0.0}, "alpha > 0"),
        ("dirichlet", {"alpha": float("nan")}, "alpha > 0"),
        ("dirichlet", {"min_partition_size": 0}, "min_partition_size >= 1"),
        ("by_label", {"labels": 0}, "labels >= 1"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        partitions.build(name, **options)


def test_every_file_of_the_folder_is_a_partition_that_is_found():
    assert {"iid", "dirichlet", "by_label"} <= set(SHIPPED) <= set(partitions.available())


@pytest.mark.parametrize("name", SHIPPED)
def test_docstrings_hold_the_lines_that_other_code_reads(name):
    lines = (inspect.getdoc(partitions.factory(name)) or "").splitlines()
    for field in ("Splits", "Source"):
        assert sum(line.startswith(f"{field}: ") for line in lines) == 1, field


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match=r"unknown partition 'dirichle': did you mean 'dirichlet'\?"):
        partitions.build("dirichle")
    with pytest.raises(ValueError, match=r"unknown thing 'xyz': available: by_label, dirichlet, iid"):
        registry.factory("simulator.partitions", "xyz", "thing")
