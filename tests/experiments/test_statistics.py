"""Statistics against enumeration, simulation and published numbers."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from byzax.experiments.statistics import (
    compare_pairs,
    holm,
    interquartile_mean,
    mean_interval,
    profile,
    rank,
    seeds_needed,
    worst_interval,
)


def test_an_interval_holds_the_mean_in_about_95_of_100_cases():
    draw, inside = np.random.default_rng(0), 0
    for _ in range(300):
        low, high = mean_interval(draw.normal(2, 1, 30).tolist())
        inside += low <= 2 <= high
    # of few values the bootstrap is somewhat too narrow
    assert 0.89 < inside / 300 < 0.985


def test_an_interval_is_the_same_each_time_and_moves_with_unit_and_origin():
    values = [0.1, 0.4, 0.35, 0.8, 0.2]
    low, high = mean_interval(values)
    assert mean_interval(values) == (low, high)
    assert low < np.mean(values) < high
    moved = mean_interval([3 * value + 1 for value in values])
    assert moved == pytest.approx((3 * low + 1, 3 * high + 1))
    turned = mean_interval([-value for value in values])
    assert turned == pytest.approx((-high, -low), abs=0.03)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.6], [0.5, 0.6, math.inf], [0.5, math.nan, 0.7]])
def test_too_few_values_or_infinite_ones_have_no_interval(values):
    assert all(math.isnan(end) for end in mean_interval(values))


def test_equal_values_have_an_interval_of_that_value():
    assert mean_interval([0.5] * 4) == (0.5, 0.5)


def test_the_worst_of_means_is_found_anew_in_each_resample():
    draw = np.random.default_rng(1)
    one, other = draw.normal(0.5, 0.1, (2, 40))
    low, high = worst_interval(np.stack([one, other]), higher_is_better=True)
    # the smaller of two alike is below either
    assert low < min(mean_interval(one)[0], mean_interval(other)[0]) + 0.01
    assert high < max(mean_interval(one)[1], mean_interval(other)[1])
    # one that is far worse is the worst in all resamples
    far = worst_interval(np.stack([one, other - 5]), higher_is_better=True)
    assert far == pytest.approx(worst_interval(other[None] - 5, higher_is_better=True))
    assert far == pytest.approx(mean_interval(other - 5), abs=0.01)
    mirrored = worst_interval(-np.stack([one, other]), higher_is_better=False)
    assert mirrored == pytest.approx((-high, -low))


def exact_p(differences):
    """Wilcoxon's p-value by all signs of the ranks; no differences are equal or 0."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    middle = ranks.sum() / 2
    observed = abs(ranks[np.asarray(differences) > 0].sum() - middle)
    sums = [abs(np.dot(ranks, signs) - middle) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return np.mean([each >= observed for each in sums])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 10**6), min_size=3, max_size=9, unique=True), st.data())
def test_pairs_are_compared_by_the_exact_signed_rank_test(sizes, data):
    differences = [size * data.draw(st.sampled_from((-1, 1))) / 1e6 for size in sizes]
    second = dict.fromkeys(range(len(sizes) + 2), 0.5)
    first = {seed: 0.5 + each for seed, each in enumerate(differences)} | {100: 3.0}
    found = compare_pairs(first, second)
    assert found.pairs == len(sizes)
    assert found.difference == pytest.approx(np.mean(differences))
    assert found.p == pytest.approx(exact_p(differences))
    other = compare_pairs(second, first)
    assert (other.difference, other.p) == pytest.approx((-found.difference, found.p))


def test_pairs_that_are_equal_or_missing_show_nothing():
    same = dict.fromkeys(range(5), 0.5)
    assert compare_pairs(same, same)[0::3] == (0.0, 1.0)
    found = compare_pairs(same, {7: 0.5})
    assert (found.pairs, found.p) == (0, 1.0)
    assert compare_pairs(same, {**same, 0: math.inf}).pairs == 4


def test_holm_gives_the_published_example():
    # Holm 1979 by hand: 0.01 * 4, 0.02 * 3, then 0.03 * 2 and 0.04, none below the one before
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_one_test_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for p, each in zip(p_values, adjusted, strict=True):
        assert p <= each <= min(1, len(p_values) * p * (1 + 1e-9))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.asarray(adjusted)[order]) >= 0).all()
    # the smallest is Bonferroni's
    assert min(adjusted) == pytest.approx(min(1, len(p_values) * min(p_values)))


@pytest.mark.parametrize("comparisons", [1, 2, 3, 6, 10])
def test_so_many_seeds_can_show_a_difference_and_one_fewer_cannot(comparisons):
    needed = seeds_needed(comparisons)

    def smallest_p(seeds):
        differences = {seed: 1.0 + seed for seed in range(seeds)}
        clear = compare_pairs(differences, dict.fromkeys(range(seeds), 0.0)).p
        return min(holm([clear] + [1.0] * (comparisons - 1)))

    assert smallest_p(needed) <= 0.05 < smallest_p(needed - 1)


def test_the_interquartile_mean_leaves_a_quarter_out_at_each_end():
    assert interquartile_mean(np.array([[0.0, 1, 2, 3], [4, 5, 6, 1000]])) == pytest.approx(np.mean([2, 3, 4, 5]))


def test_a_profile_counts_runs_of_each_setting_alike():
    values = np.array([[0.2, 0.4, np.nan], [0.6, 0.8, 1.0]])
    thresholds = np.array([0.0, 0.4, 0.9, 1.1])
    assert profile(values, thresholds, True).tolist() == pytest.approx([1, (0.5 + 1) / 2, (0 + 1 / 3) / 2, 0])
    assert profile(-values, -thresholds, False).tolist() == profile(values, thresholds, True).tolist()


# Demsar 2006, table 6: AUC of C4.5 with and without tuning of its two parameters on 14 data sets
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ]
)  # fmt: skip


def test_average_ranks_and_the_critical_difference_are_those_of_the_papers_example():
    found = rank(DEMSAR, higher_is_better=True)
    np.testing.assert_allclose(found.ranks, [3.143, 2.000, 2.893, 1.964], atol=0.001)
    # q = 2.569 for four methods
    assert found.critical == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=0.002)
    # by Friedman's test (chi square 9.28 with 3 degrees of freedom) they differ at 5 %
    assert 0.01 < found.p < 0.05
    turned = rank(-DEMSAR, higher_is_better=False)
    np.testing.assert_array_equal(turned.ranks, found.ranks)


def test_one_setting_or_equal_methods_rank_nothing():
    assert math.isnan(rank(np.array([[0.1, 0.2, 0.3]]), True).critical)
    assert rank(np.full((4, 3), 0.5), True).p == 1.0
