"""Brute's limit of work: an answer within it is the right one, and beyond it there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from rules_table import attacked

from byzax import aggregators
from byzax.aggregators.kernels.cover import EFFORT, closest_subset
from byzax.aggregators.kernels.distances import pairwise_distances

ROWS = attacked(1, 11, 5, 3, seed=8)[0]
EVERYBODY = jnp.ones(11, bool)
SUBSET = jax.jit(lambda rows, effort: closest_subset(pairwise_distances(rows), EVERYBODY, 3, effort))


@pytest.mark.parametrize("seed", range(5))
def test_every_effort_gives_the_right_subset_or_none(seed):
    rows = attacked(1, 11, 5, 3, seed=seed)[0]
    right = np.isin(range(11), oracles.smallest_diameter_subset(rows, 3))
    decided = []
    for effort in range(1, 200):
        subset, undecided = SUBSET(rows, effort)
        decided.append(not undecided)
        assert undecided or (np.asarray(subset) == right).all()
    assert not decided[0]
    assert decided[-1]
    assert decided == sorted(decided)


def test_beyond_its_effort_brute_raises_and_names_the_way_out():
    rule = aggregators.build("brute", 11, 3, effort=5)
    with pytest.raises(RuntimeError, match=r"brute is undecided.*effort.*multi_krum"):
        rule.apply(ROWS, rule.init(5))


@pytest.mark.slow
def test_beyond_its_effort_compiled_brute_gives_no_number():
    rule = aggregators.build("brute", 11, 3, effort=5)
    aggregate, _, info = jax.jit(rule.apply)(ROWS, rule.init(5))
    assert info.undecided
    assert np.isnan(aggregate).all()


@pytest.mark.slow
def test_bulyan_over_an_undecided_brute_is_undecided_even_beside_a_row_of_nan(monkeypatch):
    build = aggregators.build
    rows = ROWS.copy()
    rows[4] = np.nan
    answer = build("bulyan", 11, 2, base="brute")
    monkeypatch.setattr(aggregators, "build", lambda name, n, f: build(name, n, f, effort=5))
    undecided = build("bulyan", 11, 2, base="brute")
    with pytest.raises(RuntimeError, match="bulyan is undecided"):
        undecided.apply(rows, ())
    aggregate, _, info = jax.jit(undecided.apply)(rows, ())
    assert info.undecided
    assert np.isnan(aggregate).all()
    assert np.isfinite(answer.apply(rows, ())[0]).all()


@pytest.mark.slow
def test_ten_byzantine_rows_among_fifty_and_twenty_among_a_hundred_need_a_small_part_of_the_effort():
    for n, f in ((50, 10), (100, 20)):
        rows = attacked(1, n, 200, f, seed=n)[0]
        search = jax.jit(
            lambda rows, n=n, f=f: closest_subset(pairwise_distances(rows), jnp.ones(n, bool), f, EFFORT // 100)
        )
        subset, undecided = search(rows)
        assert not undecided
        assert subset.sum() == n - f
