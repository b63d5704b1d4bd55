"""The promises of every partition, and the labels of each."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from byzax.options import PartError
from byzax.simulator import partitions
from byzax.simulator.config.data import ALIASES
from byzax.simulator.config.part import Choice
from byzax.simulator.partitions import Samples, base

FOLDER = Path(inspect.getfile(partitions)).parent
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in ("__init__", "base"))


def labels_of(samples, classes, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(samples) % classes)


def samples_of(labels, owners=None, x=None):
    """Samples whose features say nothing, unless they are given."""
    made = np.random.default_rng(3).normal(size=(len(labels), 4)).astype(np.float32) if x is None else x
    return Samples(labels, owners, lambda: made.copy())


def parts_of(name, labels, workers, seed=0, /, **options):
    # every third sample or so has another owner, in no order
    owners = np.random.default_rng(7).permutation(np.arange(len(labels)) // 3).astype(np.int32)
    samples = labels if isinstance(labels, Samples) else samples_of(labels, owners)
    return partitions.build(name, **options)(samples, workers, np.random.default_rng(seed))


# each partition with options under which it deals out every sample
CASES = [
    ("by_writer", {}),
    ("extreme", {}),
    ("feature_skew", {}),
    ("feature_skew", {"strictness": 0.5}),
    ("long_tail", {"gamma": 1.0}),
    ("long_tail", {"gamma": 1.0, "deal": "sorted"}),
    ("quantity_skew", {}),
    ("quantity_skew", {"alpha": 5.0, "min_partition_size": 3}),
    ("shards", {}),
    ("shards", {"per_worker": 5}),
    ("similarity", {}),
    ("similarity", {"gamma": 0.0}),
    ("similarity", {"gamma": 1.0}),
    ("similarity", {"gamma": 0.03}),
    ("iid", {}),
    ("dirichlet", {"alpha": 1.0}),
    ("dirichlet", {"alpha": 0.1}),
    ("dirichlet", {"alpha": 1.0, "self_balancing": False}),
    ("dirichlet", {"alpha": 10.0, "min_partition_size": 3}),
    ("by_label", {"labels": 2}),
    ("by_label", {"labels": 5}),
    ("by_group", {"groups": 1}),
    ("by_group", {"groups": 3}),
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
    assume(workers >= options.get("groups", 1))
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


@pytest.mark.parametrize("name", ["dirichlet", "quantity_skew"])
def test_a_split_that_cannot_be_found_is_given_up_after_so_many_numbers_drawn(monkeypatch, name):
    monkeypatch.setattr(base, "MAX_DRAWN", 20 * 250)
    # 200 samples and 5 labels for each of 10 workers are 250 numbers a draw; the sizes of 10 workers are 10
    tried = {"dirichlet": 20, "quantity_skew": 500}[name]
    with pytest.raises(ValueError, match=f"in {tried} draws: raise alpha .*, lower min_partition_size or"):
        parts_of(name, labels_of(200, 5), 10, alpha=0.01, min_partition_size=19)


def test_millions_of_samples_are_drawn_again_less_often():
    assert [base.max_attempts(numbers) for numbers in (1000, 3 * 10**5, 3 * 10**6, 10**9)] == [1000, 1000, 100, 10]


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


# -- sorted ones ---------------------------------------------------------------------------


def test_every_partition_has_a_case_here():
    assert {name for name, _ in CASES} == set(SHIPPED)


@settings(deadline=None, max_examples=30)
@given(workers=st.integers(1, 20), per_worker=st.integers(1, 4), extra=st.integers(0, 60), seed=st.integers(0, 2**32))
def test_shards_are_pieces_of_the_sorted_samples_dealt_in_equal_numbers(workers, per_worker, extra, seed):
    # values that are all different: the place of each in the order is known
    labels = np.random.default_rng(seed).permutation(workers * per_worker + extra).astype(np.int32)
    cuts = np.array_split(np.sort(labels), workers * per_worker)
    shards = {tuple(cut) for cut in cuts}
    for part in parts_of("shards", labels, workers, seed, per_worker=per_worker):
        mine = set(labels[part])
        own = {shard for shard in shards if mine & set(shard)}
        assert len(own) == per_worker
        assert mine == set().union(*own)


def test_two_shards_a_worker_are_few_labels_but_not_always_two():
    labels = labels_of(1000, 10)
    held = [
        len(np.unique(labels[part])) for seed in range(20) for part in parts_of("shards", labels, 10, seed)
    ]  # 100 of each label and 20 shards of 50: no shard lies across a border
    assert set(held) == {1, 2}


@pytest.mark.parametrize("name", ["extreme", "similarity"])
def test_the_sorted_split_gives_each_worker_a_run_of_labels_and_the_first_worker_not_always_the_first(name):
    labels = labels_of(100, 10)
    options = {} if name == "extreme" else {"gamma": 0}
    first = set()
    for seed in range(20):
        parts = parts_of(name, labels, 5, seed, **options)
        assert sorted(tuple(np.unique(labels[part])) for part in parts) == [(i, i + 1) for i in range(0, 10, 2)]
        first.add(int(labels[parts[0]].min()))
    assert len(first) > 2


def test_values_of_a_regression_are_sorted_too():
    values = np.random.default_rng(0).normal(size=90).astype(np.float32)
    expected = sorted(tuple(piece) for piece in np.array_split(np.sort(values), 4))
    assert sorted(tuple(np.sort(values[part])) for part in parts_of("extreme", values, 4)) == expected


@pytest.mark.parametrize("gamma", [0.29, 0.5, 0.8])
def test_similarity_deals_just_the_share_gamma_at_random(gamma):
    # 100 samples of each of 10 labels, 10 workers: a worker's own label is its sorted piece, with the share it draws
    labels = np.repeat(np.arange(10), 100)
    for seed in range(5):
        parts = parts_of("similarity", labels, 10, seed, gamma=gamma)
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 2
        most = sum(np.bincount(labels[part]).max() for part in parts)
        # the sorted share, and a tenth of the others that have this label by chance; pieces may cross a border
        assert most / 1000 == pytest.approx(1 - gamma + gamma / 10, abs=0.1)


def entropy_of(labels, parts):
    """Mean entropy of the workers' labels, in bits."""
    shares = [np.bincount(labels[part]) / len(part) for part in parts]
    return np.mean([-(p[p > 0] * np.log2(p[p > 0])).sum() for p in shares])


def test_entropy_of_the_labels_falls_from_iid_over_similarity_to_extreme():
    labels = labels_of(2000, 10)
    entropies = [entropy_of(labels, parts_of("iid", labels, 10))] + [
        entropy_of(labels, parts_of("similarity", labels, 10, gamma=gamma)) for gamma in (0.9, 0.5, 0.1, 0.0)
    ]
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[-1] == 0
    assert entropies[0] > np.log2(10) - 0.1


# -- sizes, owners, rare labels, features ------------------------------------------------


def test_quantity_skew_has_shares_of_the_variance_of_the_distribution_and_the_labels_of_all():
    labels, workers, alpha = labels_of(10_000, 2), 5, 0.5
    runs = [parts_of("quantity_skew", labels, workers, seed, alpha=alpha) for seed in range(200)]
    shares = [len(part) / 10_000 for parts in runs for part in parts]
    # of one worker Beta(a, (m-1) a)
    assert np.var(shares) == pytest.approx(0.2 * 0.8 / (workers * alpha + 1), rel=0.15)
    large = [labels[part].mean() for parts in runs for part in parts if len(part) > 1000]
    assert np.std(large) < 0.02


@settings(deadline=None, max_examples=30)
@given(workers=st.integers(1, 10), more=st.integers(0, 30), seed=st.integers(0, 2**32))
def test_owners_stay_whole_and_are_dealt_in_equal_numbers(workers, more, seed):
    rng = np.random.default_rng(seed)
    # ids with gaps, of unequal sizes, mixed
    ids = rng.choice(10_000, workers + more, replace=False)
    owners = rng.permutation(np.repeat(ids, rng.integers(1, 9, len(ids)))).astype(np.int32)
    samples = samples_of(np.zeros(len(owners), np.int32), owners)
    found = [np.unique(owners[part]) for part in parts_of("by_writer", samples, workers, seed)]
    assert sorted(np.concatenate(found)) == sorted(ids)
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_by_writer_leaves_the_other_owners_out_where_it_is_told_how_many():
    owners = np.repeat(np.arange(20), 5)
    parts = parts_of("by_writer", samples_of(np.zeros(100, np.int32), owners), 4, per_worker=2)
    assert [len(part) for part in parts] == [10] * 4
    assert len(np.unique(owners[np.concatenate(parts)])) == 8
    with pytest.raises(ValueError, match=r"for 7 workers .* at most 6 workers, or per_worker at most 2"):
        parts_of("by_writer", samples_of(np.zeros(100, np.int32), owners), 7, per_worker=3)


def test_data_without_owners_cannot_be_split_by_them():
    with pytest.raises(ValueError, match="by_writer needs data that has an owner for each sample"):
        parts_of("by_writer", samples_of(labels_of(50, 5)), 3)


@pytest.mark.parametrize("deal", ["iid", "sorted"])
def test_a_long_tail_keeps_a_power_of_gamma_of_each_label(deal):
    # not 0..9: the i-th label that there is counts; 100 * 0.7^i, rounded down
    values = np.array([2, 3, 5, 8, 11])
    labels = np.random.default_rng(0).permutation(np.repeat(values, 100)).astype(np.int32)
    parts = parts_of("long_tail", labels, 4, gamma=0.7, deal=deal)
    left = labels[np.concatenate(parts)]
    assert [int((left == value).sum()) for value in values] == [100, 70, 49, 34, 24]
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    held = sorted(len(np.unique(labels[part])) for part in parts)
    assert held == [5] * 4 if deal == "iid" else held[0] == 1


@pytest.mark.parametrize(("workers", "sizes"), [(6, [3, 3]), (7, [4, 3])])
def test_each_group_of_workers_has_its_own_labels_in_the_order_of_both(workers, sizes):
    # not 0..4, and an odd number of them: the first group has one more
    values = np.array([2, 3, 5, 8, 11])
    labels = np.random.default_rng(0).permutation(np.repeat(values, 100)).astype(np.int32)
    parts = parts_of("by_group", labels, workers)
    expected = [[2, 3, 5]] * sizes[0] + [[8, 11]] * sizes[1]
    assert [np.unique(labels[part]).tolist() for part in parts] == expected
    for members, held in ((parts[: sizes[0]], 300), (parts[sizes[0] :], 200)):
        assert {len(part) for part in members} <= {held // len(members), held // len(members) + 1}


def test_a_tail_so_thin_that_workers_are_left_without_samples_is_refused():
    with pytest.raises(ValueError, match=r"gamma=0.01 leaves 4 of 20 training samples, too few for 5 workers"):
        parts_of("long_tail", labels_of(20, 5), 5, gamma=0.01)


def features(samples=600, size=(5, 4)):
    """Samples that differ most along one direction, which is no axis, a bit less along another; and far from 0."""
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    spread = np.array([3.0, 2.5, *np.full(18, 0.5)])
    return (100 + rng.normal(size=(samples, 20)) * spread @ axes.T).astype(np.float32).reshape(samples, *size)


def test_feature_skew_sorts_by_the_first_principal_component():
    x = features()
    flat = x.reshape(len(x), -1).astype(np.float64)
    left, values, _ = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    assert values[0] > 1.1 * values[1]
    order = np.argsort(left[:, 0])
    expected = {frozenset(piece.tolist()) for piece in np.array_split(order, 4)}
    found = parts_of("feature_skew", samples_of(labels_of(600, 3), x=x), 4)
    # rounding may swap two neighbours at a border
    overlap = [max(len(set(part.tolist()) & piece) for piece in expected) for part in found]
    assert min(overlap) >= 149


def test_feature_skew_leaves_labels_as_they_are_and_loosens_with_less_strictness():
    x = features()
    labels = labels_of(600, 3)
    before = x.copy()
    scores = x.reshape(600, -1) @ np.linalg.svd(x.reshape(600, -1) - x.reshape(600, -1).mean(axis=0))[2][0]

    def spread(strictness):
        parts = parts_of("feature_skew", samples_of(labels, x=x), 6, strictness=strictness)
        assert entropy_of(labels, parts) > np.log2(3) - 0.1
        return np.std([scores[part].mean() for part in parts]) / scores.std()

    spreads = [spread(strictness) for strictness in (1.0, 0.7, 0.4, 0.0)]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] > 0.9
    assert spreads[-1] < 0.3
    np.testing.assert_array_equal(x, before)


def test_feature_skew_of_equal_samples_is_a_random_split_and_characters_are_refused():
    flat = samples_of(labels_of(50, 5), x=np.ones((50, 3), np.float32))
    assert sorted(np.concatenate(parts_of("feature_skew", flat, 5)).tolist()) == list(range(50))
    with pytest.raises(ValueError, match="these samples are characters"):
        parts_of("feature_skew", samples_of(labels_of(50, 5), x=np.ones((50, 3), np.int32)), 5)


@pytest.mark.parametrize("name", ["dirichlet", "by_label", "by_group", "long_tail"])
def test_partitions_by_label_refuse_values_and_name_some_that_take_them(name):
    with pytest.raises(ValueError, match=f"{name} deals by label, and this data has values .* take iid"):
        parts_of(name, np.linspace(0, 1, 60, dtype=np.float32), 3)


@pytest.mark.parametrize("name", ["iid", "quantity_skew", "feature_skew", "similarity", "shards", "extreme"])
def test_the_partitions_that_the_refusal_names_take_values(name):
    parts = parts_of(name, np.linspace(0, 1, 60, dtype=np.float32), 3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(60))


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_a_scenario_may_say_the_names_of_other_libraries(alias, name):
    choice = Choice("partition", aliases=ALIASES)
    for written in (alias, {"name": alias}):
        assert choice.validate(written).name == name


REFUSED = [
    ("shards", {"per_worker": 3}, 14, 5, "14 training samples are too few for 5 workers with at least 3 each"),
    ("extreme", {}, 3, 4, "3 training samples are too few for 4 workers"),
    ("similarity", {}, 3, 4, "3 training samples are too few for 4 workers"),
    (
        "quantity_skew",
        {"min_partition_size": 5},
        9,
        2,
        "too few for 2 workers with at least 5 each: take 1 worker, or take more",
    ),
    ("quantity_skew", {"alpha": 0.01, "min_partition_size": 9}, 60, 6, r"no split of 60 .*raise alpha \(now 0.01\)"),
    ("quantity_skew", {"min_partition_size": 50}, 9, 1, "for 1 worker with at least 50 each: ask for fewer for each"),
    ("shards", {"per_worker": 3}, 14, 5, "too few for 5 workers with at least 3 each: take at most 4 workers"),
    ("by_writer", {}, 9, 4, "3 owners of training samples are too few for 4 workers .* each: take at most 3 workers$"),
    ("by_writer", {"per_worker": 4}, 9, 2, "for 2 workers with at least 4 each: per_worker at most 1$"),
    ("by_writer", {"per_worker": 4}, 9, 4, "each: take fewer workers, and fewer for each$"),
    ("long_tail", {}, 3, 4, "3 training samples are too few for 4 workers"),
    ("feature_skew", {}, 3, 4, "3 training samples are too few for 4 workers"),
    ("iid", {}, 3, 4, "3 training samples are too few for 4 workers"),
    ("dirichlet", {}, 3, 4, "3 training samples are too few for 4 workers"),
    (
        "dirichlet",
        {"min_partition_size": 5},
        9,
        2,
        "too few for 2 workers with at least 5 each: take 1 worker, or take more",
    ),
    ("by_label", {}, 3, 4, "3 training samples are too few for 4 workers"),
    ("by_label", {"labels": 4}, 30, 4, "cannot give 4 labels to each worker: the data has 3"),
    ("by_label", {"labels": 3}, 6, 5, "2 samples for 5 workers"),
    ("by_group", {}, 9, 1, "groups is at most 1 with workers=1 and labels=3, got 2"),
    ("by_group", {"groups": 4}, 30, 6, "groups is at most 3 with workers=6 and labels=3, got 4"),
    ("by_group", {}, 8, 8, "workers 4 to 7 are a group of 4, whose labels have 2 samples: take fewer workers"),
    ("iid", {}, 3, 0, "workers >= 1"),
]


@pytest.mark.parametrize(("name", "options", "samples", "workers", "message"), REFUSED)
def test_samples_that_do_not_suffice_are_refused(name, options, samples, workers, message):
    with pytest.raises(PartError, match=message):
        parts_of(name, labels_of(samples, 3), workers, **options)


def test_every_file_of_the_folder_is_a_partition_that_is_found():
    assert {"iid", "dirichlet", "by_label"} <= set(SHIPPED) <= set(partitions.available())


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(PartError, match=r"unknown partition 'dirichle'; did you mean 'dirichlet'\?"):
        partitions.build("dirichle")
    with pytest.raises(PartError, match=r"unknown partition 'xyz'; known: by_group, by_label, .*dirichlet, .*iid"):
        partitions.build("xyz")
