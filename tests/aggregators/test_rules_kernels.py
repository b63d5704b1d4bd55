"""What the rules are made of: distances, sorted columns, vertex covers, the options that join them."""

import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_table import integers, normal

import aggregators
from aggregators.kernels.columns import sorted_rows
from aggregators.kernels.cover import coverable
from aggregators.kernels.distances import BLOCK, squared_distances


def exact_squared(rows):
    rows = np.asarray(rows, np.float64)
    return ((rows[:, None] - rows[None]) ** 2).sum(axis=2)


def largest_relative_error(rows):
    expected = exact_squared(rows)
    apart = expected > 0
    return np.abs(np.asarray(jax.jit(squared_distances)(rows), np.float64)[apart] / expected[apart] - 1).max()


def test_distances_are_accurate_where_rows_are_close_together_far_from_the_origin():
    assert largest_relative_error((1e3 + 1e-3 * normal(1, 12, 3 * BLOCK + 5)[0]).astype(np.float32)) < 1e-5


def test_distances_among_rows_of_length_one_are_accurate_whatever_the_others_are():
    rows = normal(1, 12, 500)[0]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[:5] *= 1e10
    assert largest_relative_error(rows) < 1e-5


@pytest.mark.parametrize("d", [1, BLOCK - 1, BLOCK, BLOCK + 1])
def test_distances_are_symmetric_and_exactly_zero_between_equal_rows(d):
    rows = normal(1, 7, d)[0] + 100
    rows[5] = rows[2]
    squared = np.asarray(squared_distances(jnp.asarray(rows)))
    np.testing.assert_array_equal(squared, squared.T)
    assert squared[2, 5] == 0
    np.testing.assert_array_equal(np.diagonal(squared), 0)
    np.testing.assert_allclose(squared, exact_squared(rows), rtol=1e-5)


def test_rows_that_are_not_finite_are_infinitely_far_from_all_and_squares_may_overflow():
    rows = np.array([[0, 0], [1, np.nan], [np.inf, 1], [1e30, 0], [3, 4]], np.float32)
    squared = np.asarray(squared_distances(jnp.asarray(rows)))
    assert np.isinf(squared[[1, 2]]).all()
    assert np.isinf(squared[3, [0, 4]]).all()
    assert (squared[3, 3], squared[0, 4]) == (0, 25)


@pytest.mark.parametrize("n", [*range(1, 20), 33, 97, 130])
def test_columns_come_out_sorted_with_nan_as_the_largest(n):
    rows = normal(1, n, 5, seed=n)[0]
    rows[n // 2, 1] = -np.inf
    rows[n // 3, 3] = np.nan
    expected = np.sort(np.where(np.isnan(rows), np.inf, rows), axis=0)
    np.testing.assert_array_equal(jnp.stack(jax.jit(lambda rows: sorted_rows(rows, range(n)))(rows)), expected)
    middle = n // 2  # a network pruned to one rank
    np.testing.assert_array_equal(sorted_rows(jnp.asarray(rows), [middle])[0], expected[middle])


COVERABLE = jax.jit(lambda graph, budget: coverable(graph, jnp.ones(9, bool), budget, 9))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
def test_a_cover_is_found_exactly_where_enumeration_finds_one(seed, density):
    graph = np.triu(np.random.default_rng(seed).random((9, 9)) < density, 1)
    edges = np.argwhere(graph)

    def covers(vertices):
        return all(a in vertices or b in vertices for a, b in edges)

    smallest = next(k for k in range(10) if any(covers(set(c)) for c in itertools.combinations(range(9), k)))
    found = [bool(COVERABLE(graph | graph.T, budget)) for budget in range(-1, 10)]
    assert found == [budget >= smallest for budget in range(-1, 10)]


def test_multi_krum_of_all_rows_is_the_average_to_the_bit():
    rows = normal(1, 9, 1000)[0]
    np.testing.assert_array_equal(
        aggregators.build("multi_krum", 9, 2, m=9).apply(rows, ())[0],
        aggregators.build("average", 9, 2).apply(rows, ())[0],
    )


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("krum", {"distance": "cubed"}, "krum: distance must be one of squared, plain, got 'cubed'"),
        ("krum", {"neighbours": "n"}, "neighbours must be one of n-f-2, n-f-1, got 'n'"),
        ("multi_krum", {"m": 0}, "1 <= m <= n - f - 2 = 7.*got m=0"),
        ("multi_krum", {"m": 8}, "m = n = 11 is the plain average.*got m=8"),
        ("multi_krum", {"m": 2.5}, "whole number m, got m=2.5"),
        ("geometric_median", {"tolerance": 0}, "tolerance > 0"),
        ("geometric_median", {"max_iterations": 0}, "max_iterations >= 1"),
        ("bulyan", {"median": "paper"}, "median must be one of lower, mid, upper, got 'paper'"),
        ("bulyan", {"base": "bulyan"}, "cannot be its own base"),
        ("bulyan", {"base": "krun"}, "did you mean 'krum'"),
    ],
)
def test_options_out_of_range_are_refused_with_what_would_work(name, options, words):
    with pytest.raises(ValueError, match=words):
        aggregators.build(name, 11, 2, **options)


USERS_RULE = '''
"""A rule as a user writes it: no `among`."""
import numpy as np
import jax.numpy as jnp
from aggregators.base import Aggregator, Info

def {name}(n, f):
    if n < 2 * f + {offset}:
        raise ValueError(f"{name} needs n >= 2f + {offset}, got n={{n}}, f={{f}}")
    return Aggregator(lambda d: (), lambda rows, state: (jnp.sort(rows, axis=0)[n // 2], state, Info()))
'''


@pytest.fixture
def users_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(aggregators, "__path__", [*aggregators.__path__, str(tmp_path)])
    yield tmp_path
    for name in ("upper_median", "choosy"):
        sys.modules.pop(f"aggregators.{name}", None)


def test_bulyan_takes_a_users_rule_without_among_as_its_base(users_folder):
    (users_folder / "upper_median.py").write_text(USERS_RULE.format(name="upper_median", offset=1))
    rule = aggregators.build("bulyan", 8, 1, base="upper_median")
    for rows in integers(30, 8, 2):
        expected = oracles.bulyan(rows, 1, lambda pool, f: np.sort(pool, axis=0)[len(pool) // 2])
        np.testing.assert_allclose(rule.apply(rows, ())[0], expected, atol=1e-5)


def test_bulyan_says_which_pool_a_base_refuses(users_folder):
    (users_folder / "choosy.py").write_text(USERS_RULE.format(name="choosy", offset=3))
    with pytest.raises(
        ValueError, match=r"pools of 11 down to 5 rows; choosy refuses one of 6 rows: choosy needs n >= 2f \+ 3"
    ):
        aggregators.build("bulyan", 11, 2, base="choosy")
