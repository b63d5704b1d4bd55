"""Rules that draw, and the clusters they are told apart by."""

import itertools

import jax
import numpy as np
import oracles
import pytest
from rules_table import attacked, normal
from sklearn.cluster import MeanShift, estimate_bandwidth

from byzax import aggregators
from byzax.aggregators import Context
from tests.nightly import by_night

N, F, D = 11, 3, 5


@pytest.mark.parametrize(("share", "count"), [by_night(0.01, 1), by_night(0.2, 1), (0.4, 2), by_night(0.41, 3)])
def test_signguard_counts_signs_in_that_share_of_the_coordinates_any_of_them(share, count):
    rule = aggregators.build("signguard", N, F, share=share)
    rows = attacked(1, N, D, F, seed=4)[0]
    subsets = list(itertools.combinations(range(D), count))
    possible = [
        oracles.signguard(rows, F, features=lambda rows, subset=subset: oracles.sign_shares(rows[:, list(subset)]))
        for subset in subsets
    ]
    seen = set()
    for seed in range(60):
        found, _, _ = rule.apply(rows, (), Context(jax.random.key(seed)))
        matches = [np.allclose(found, expected, rtol=1e-4, atol=1e-4) for expected in possible]
        assert any(matches)
        seen.add(matches.index(True))
    distinct = {tuple(np.round(expected, 3)) for expected in possible}
    assert len(seen) == len(distinct) > 1


def test_signguard_asks_for_a_key_where_it_draws():
    rows = normal(1, N, D)[0]
    with pytest.raises(ValueError, match=r"signguard draws: .*Context\(key="):
        aggregators.build("signguard", N, F).apply(rows, ())
    aggregators.build("signguard", N, F, share=1.0).apply(rows, ())


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused_with_what_came(share):
    with pytest.raises(ValueError, match=f"signguard: share must be .*, got {share}"):
        aggregators.build("signguard", N, F, share=share)


@pytest.mark.parametrize("size", [1e30, np.nan])
def test_byzantine_rows_that_are_the_largest_cluster_of_signs_but_too_long_leave_the_rows_of_usual_length(size):
    rows = np.full((9, 8), size, np.float32)
    for place, (positive, negative) in enumerate([(0, 8), (0, 4), (1, 0), (4, 4), (4, 0)]):
        rows[4 + place] = np.repeat([1, 0, -1], [positive, 8 - positive - negative, negative])
    rule = aggregators.build("signguard", 9, 4, share=1.0)
    result, _, info = rule.apply(rows, ())
    assert (info.weights[:4] == 0).all()
    assert np.linalg.norm(result) <= np.linalg.norm(rows[4:], axis=1).max()
    if np.isfinite(size):
        np.testing.assert_allclose(info.weights[4:], 1 / 5, rtol=1e-6)


@pytest.mark.parametrize("n", [5, 12, 30])
def test_the_mean_shift_of_the_oracle_is_that_of_scikit_learn_where_groups_stand_apart(n):
    rng = np.random.default_rng(n)
    for _ in range(6):
        points = rng.normal(size=(n, 3)) * 0.02 + np.where(np.arange(n)[:, None] < n // 3, 1.0, 0.0)
        shift = MeanShift(bandwidth=estimate_bandwidth(points, quantile=0.5), cluster_all=False).fit(points)
        largest = np.bincount(shift.labels_[shift.labels_ >= 0]).argmax()
        assert sorted(oracles.mean_shift(points)) == np.flatnonzero(shift.labels_ == largest).tolist()
