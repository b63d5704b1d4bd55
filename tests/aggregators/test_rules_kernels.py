"""Parts of the rules: distances, sorted columns, vertex covers, the options that join them."""

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

from byzax import aggregators
from byzax.aggregators import Context
from byzax.aggregators.bulyan import bulyan
from byzax.aggregators.geometric_median import geometric_median, nearest_optimum
from byzax.aggregators.kernels import columns
from byzax.aggregators.kernels.clipping import clipped_mean, half_median_norm, measure_lengths
from byzax.aggregators.kernels.columns import order_statistics, sort_columns
from byzax.aggregators.kernels.cover import has_cover
from byzax.aggregators.kernels.distances import (
    BLOCK,
    build_sums_of_nearest,
    middle_row,
    pairwise_distances,
    squared_distances_to,
)
from byzax.aggregators.kernels.means import group_means
from byzax.aggregators.kernels.spectrum import LARGE, leading_eigenpair, least_spread_subset, unrank_subsets
from byzax.options import OptionError, PartError
from tests.nightly import by_day, by_night


def exact_squared(rows):
    rows = np.asarray(rows, np.float64)
    return ((rows[:, None] - rows[None]) ** 2).sum(axis=2)


def found_squared(rows):
    apart = jax.jit(pairwise_distances)(jnp.asarray(rows))
    assert np.array_equal(apart.finite, np.isfinite(rows).all(axis=1))
    squared = np.asarray(apart.squared, np.float64)
    np.testing.assert_array_equal(squared, squared.T)
    assert (np.diagonal(squared)[apart.finite] == 0).all()
    return squared * float(apart.unit) ** 2


def clusters(rng, count, n, d, noise):
    """`count` places far from each other, and the rows around them."""
    return rng.normal(size=(count, d))[np.arange(n) % count] + noise * rng.normal(size=(n, d))


SCENES = {
    "normal": lambda rng, n, d: rng.normal(size=(n, d)),
    "close together far from the origin": lambda rng, n, d: 1e3 + 1e-3 * rng.normal(size=(n, d)),
    "outliers": lambda rng, n, d: rng.normal(size=(n, d)) * np.where(np.arange(n) < n // 3, 1e10, 1)[:, None],
    "an outlier where few look": lambda rng, n, d: np.eye(n, d, -d // 2) * 1e10 + rng.normal(size=(n, d)),
    "Byzantine rows close to each other": lambda rng, n, d: clusters(rng, 2, n, d, 1e-4),
    "clusters": lambda rng, n, d: clusters(rng, 4, n, d, 1e-3),
    "pairs of twins": lambda rng, n, d: clusters(rng, n // 2, n, d, 0),
    "ever smaller": lambda rng, n, d: rng.normal(size=(n, d)) * 10.0 ** -np.arange(n)[:, None],
    "clusters in clusters": lambda rng, n, d: sum(
        10.0**-k * rng.normal(size=(2, 1, d))[np.arange(n) >> k & 1, 0] for k in range(5)
    ),
    "on a line": lambda rng, n, d: 3.0 ** np.arange(n)[:, None] * np.linspace(1, 2, d),
    "skewed": lambda rng, n, d: 0.3 * rng.normal(size=(n, d)) + clusters(rng, 3, n, d, 0),
    "the same but for one column": lambda rng, n, d: 7 + rng.normal(size=(n, 1)) * (np.arange(d) == d // 3),
    "huge": lambda rng, n, d: 1e37 * rng.normal(size=(n, d)),
    "the largest floats": lambda rng, n, d: 3.4e38 * rng.choice([-1, 1], size=(n, d)),
    "tiny": lambda rng, n, d: 1e-30 * rng.normal(size=(n, d)),
}


@pytest.mark.parametrize("d", [5, 2 * BLOCK + 1003])
@pytest.mark.parametrize("scene", SCENES)
def test_distances_are_accurate_wherever_the_rows_lie(scene, d):
    rows = SCENES[scene](np.random.default_rng(3), 19, d).astype(np.float32)
    expected = exact_squared(rows)
    apart = expected > 0
    found = found_squared(rows)
    assert np.abs(found[apart] / expected[apart] - 1).max() < 1e-5
    assert (found[~apart] == 0).all()


@pytest.mark.slow
def test_equal_rows_are_equally_far_from_the_others_to_the_bit():
    rows = normal(1, 45, 3 * BLOCK + 7)[0]
    rows[[1, 17, 44]] = rows[30]
    squared = found_squared(rows)
    for twin in (1, 17, 44):
        np.testing.assert_array_equal(
            np.delete(squared[twin], [1, 17, 30, 44]), np.delete(squared[30], [1, 17, 30, 44])
        )


@pytest.mark.parametrize("n", by_day([7], (7, 96, 300, 97)))
def test_the_nearest_of_a_pool_are_summed_and_equal_rows_tie_to_the_bit(n):
    generator = np.random.default_rng(n)
    rows = generator.normal(size=(n, 40)).astype(np.float32)
    rows[n - 1] = rows[0]
    squared = np.asarray(jax.jit(pairwise_distances)(jnp.asarray(rows)).squared)
    alive = generator.random(n) < 0.8
    alive[[0, n - 1]] = True
    count = int(alive.sum()) - 3
    nearest = jax.jit(lambda squared, alive: build_sums_of_nearest(squared)(alive, count))
    infinite, found = map(np.asarray, nearest(squared, alive))
    assert not infinite.any()
    for i in range(n):
        others = np.sort(squared[i, alive & (np.arange(n) != i)].astype(np.float64))
        np.testing.assert_allclose(found[i], others[:count].sum(), rtol=1e-5)
    assert found[0] == found[n - 1]


@pytest.mark.parametrize("n", by_day([3, 97], (3, 96, 97, 200)))
def test_sorted_columns_are_those_of_numpy(n):
    matrix = np.random.default_rng(n).integers(-9, 9, (n, 700)).astype(np.float32)
    matrix[1, :300] = np.inf
    np.testing.assert_array_equal(sort_columns(jnp.asarray(matrix)), np.sort(matrix, axis=0))


def test_rows_that_are_not_finite_are_infinitely_far_from_all():
    rows = np.array([[0, 0], [1, np.nan], [np.inf, 1], [1e30, 0], [3, 4]], np.float32)
    squared = found_squared(rows)
    assert np.isinf(squared[[1, 2]]).all()
    assert np.isinf(squared[3, [0, 4]]).all()
    assert squared[0, 4] == pytest.approx(25)
    assert np.isinf(found_squared(np.full_like(rows, np.nan))).all()


def test_a_row_in_the_middle_with_one_nan_leaves_the_distances_between_the_others():
    rows = normal(1, 19, 2 * BLOCK + 1003)[0]
    rows[7] = 0
    rows[[3, 7], 1] = [np.nan, 0]  # in a column that the search for the middle does not look at
    rows[3, np.arange(rows.shape[1]) != 1] = 0
    squared, expected = found_squared(rows), exact_squared(rows)
    others = np.arange(19) != 3
    assert np.isinf(squared[3]).all()
    np.testing.assert_allclose(squared[others][:, others], expected[others][:, others], rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-30, 1, 1e30])
def test_distances_to_a_point_keep_their_order_at_any_scale(factor):
    rows = normal(1, 9, 40)[0] * np.float32(factor)
    rows[3, 7] = np.nan
    found = np.asarray(squared_distances_to(jnp.asarray(rows), jnp.asarray(rows[0])), np.float64)
    expected = ((rows.astype(np.float64) - rows[0]) ** 2).sum(axis=1)
    assert np.isinf(found[3])
    np.testing.assert_allclose(np.delete(found / found[1], 3), np.delete(expected / expected[1], 3), rtol=1e-5)


@pytest.mark.parametrize("n", by_day([1, 2, 3, 5, 8], (*range(1, 20), 33, 97, 130)))
def test_columns_come_out_sorted_with_nan_as_the_largest(n):
    rows = normal(1, n, 5, seed=n)[0]
    rows[n // 2, 1] = -np.inf
    rows[n // 3, 3] = np.nan
    expected = np.sort(np.where(np.isnan(rows), np.inf, rows), axis=0)
    np.testing.assert_array_equal(jnp.stack(jax.jit(lambda rows: order_statistics(rows, range(n)))(rows)), expected)
    middle = n // 2  # a network pruned to one rank
    np.testing.assert_array_equal(order_statistics(jnp.asarray(rows), [middle])[0], expected[middle])


@pytest.mark.parametrize(
    ("n", "dropped", "d"),
    [(1, 0, 3), (2, 1, 3), by_night(9, 0, 3), (9, 4, 3), by_night(97, 30, 3), by_night(130, 129, 1030)],
)
def test_means_of_sorted_columns_are_those_of_numpy_whatever_lies_outside(n, dropped, d):
    """Rows written out, rows in blocks, and a pool within the rows: three forms of one formula."""
    rows = np.round(8 * normal(1, n, d, seed=n)[0])
    rows[: dropped // 2] = 1e30
    rows[dropped // 2 : dropped] = -np.inf
    low, high = dropped - dropped // 2, n - dropped // 2
    ascending = np.sort(rows.astype(np.float64), axis=0)
    centre = 0.25 + np.arange(d) % 3  # never as far from one whole number as from another
    distance = np.abs(ascending - centre)
    kept = np.take_along_axis(ascending, np.argsort(distance, axis=0, kind="stable")[: n - dropped], axis=0)
    expected = ascending[low:high].mean(axis=0), kept.mean(axis=0)

    padded = np.concatenate([rows, np.full((4, d), np.inf, np.float32)])
    point = centre.astype(np.float32)

    def both(rows, low, high, size=None):
        def reduce(ascending):
            near = columns.mean_of_closest(ascending, dropped, around, size)
            return jnp.stack([columns.mean_of_ranks(ascending, low, high), near])

        around = point if n + 4 <= columns.UNROLLED else 0.25
        return columns.reduce_sorted_columns(rows, reduce)

    if n + 4 > columns.UNROLLED:  # the centre of some columns at a time: one for all
        distance = np.abs(ascending - 0.25)
        kept = np.take_along_axis(ascending, np.argsort(distance, axis=0, kind="stable")[: n - dropped], axis=0)
        expected = expected[0], kept.mean(axis=0)
    np.testing.assert_allclose(jax.jit(lambda rows: both(rows, low, high))(rows), expected, rtol=1e-6, atol=1e-6)
    traced = jax.jit(both)(padded, jnp.asarray(low), jnp.asarray(high), jnp.asarray(n))
    np.testing.assert_allclose(traced, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", by_day([5], (5, 30, 100)))
def test_means_of_floats_near_the_largest_do_not_overflow(n):
    rows = np.full((n, 3), 3e38, np.float32)
    for name in ("trimmed_mean", "phocas"):
        np.testing.assert_allclose(aggregators.build(name, n, 1).apply(rows, ())[0], rows[0], rtol=1e-6)


@pytest.mark.slow
def test_sorting_many_rows_takes_no_more_memory_than_the_rows():
    rows = jax.ShapeDtypeStruct((1000, 4096), jnp.float32)
    program = jax.jit(lambda rows: columns.mean_around_median(rows, 300, "mid")).lower(rows).compile()
    assert program.memory_analysis().temp_size_in_bytes < 1000 * 4096 * 4


@pytest.mark.parametrize("size", [1e-30, 1, 1e30, 1e37])
def test_rows_of_any_size_are_shortened_to_the_median_length(size):
    rows = (normal(1, 9, 40)[0] * np.float32(size)).astype(np.float32)
    rows[[2, 5]] = np.float32(3e38) * np.sign(rows[[2, 5]])
    rows[7, 3] = np.nan
    origin = np.float32(0.1) * rows[0]
    exact = rows.astype(np.float64) - origin
    norms = np.linalg.norm(exact, axis=1)
    bound = np.median(np.where(np.isnan(norms), np.inf, norms))
    expected = origin + np.nansum(exact * np.minimum(1, bound / norms)[:, None], axis=0) / 9

    def shortened(rows, origin):
        found = measure_lengths(rows, origin)
        return clipped_mean(rows, origin, found, half_median_norm(found))

    np.testing.assert_allclose(jax.jit(shortened)(rows, origin), expected, rtol=1e-5, atol=1e-6 * bound)


def test_the_size_of_a_row_is_nothing_to_fltrust():
    rows = normal(1, 7, 5, seed=4)[0]
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    own = np.full(5, 2.0, np.float32)
    rule = aggregators.build("fltrust", 7, 2)
    sizes = np.float32([1e-35, 1e-30, 1e-20, 1, 1e20, 1e30, 3e38])[:, None]
    context = Context(jax.random.key(0), gradient=lambda: own)
    found, expected = (rule.apply(scaled, (), context)[0] for scaled in (sizes * rows, rows))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_differences_whose_squares_vanish_are_not_taken_for_none():
    rows = np.zeros((4, 3), np.float32)
    rows[1:, 0] = [1e-25, 3e-25, 2e-25]
    found = np.asarray(jax.jit(squared_distances_to)(rows, rows[0]))
    assert list(np.argsort(found)) == [0, 1, 3, 2]
    assert found[0] == 0 < found[1]


@pytest.mark.parametrize(("n", "groups"), [(7, 7), (7, 3), (6, 3), (5, 1), (250, 2)])
def test_group_means_do_not_overflow(n, groups):
    rows = normal(1, n, 4)[0]
    rows[0] = np.finfo(np.float32).max
    rows[1] = np.finfo(np.float32).max
    expected = [part.mean(axis=0) for part in np.array_split(rows.astype(np.float64), groups)]
    np.testing.assert_allclose(jax.jit(group_means, static_argnums=1)(rows, groups), expected, rtol=1e-5)


@pytest.mark.parametrize(("n", "size"), [(5, 3), (6, 6), (7, 1), (9, 5)])
def test_subsets_come_in_lexicographic_order(n, size):
    expected = list(itertools.combinations(range(n), size))
    found = np.asarray(unrank_subsets(jnp.arange(len(expected)), n, size))
    assert [tuple(np.flatnonzero(one)) for one in found] == expected


@pytest.mark.parametrize(
    "scene", by_day(["noise", "hard"], ("noise", "one direction", "two alike", "one row", "equal rows", "hard"))
)
def test_the_first_eigenpair_of_many_rows_is_that_of_lapack(scene):
    n, generator = LARGE + 3, np.random.default_rng(0)
    directions, _ = np.linalg.qr(generator.normal(size=(n, n)))
    sizes = {
        "noise": np.linspace(1, 2, n) ** 2,
        "one direction": np.where(np.arange(n) < n - 1, generator.uniform(0, 1e-3, n), 1),
        "two alike": np.where(np.arange(n) < n - 2, 0.5, 1),
        "one row": np.where(np.arange(n) < n - 1, 0, 3e4),
        "equal rows": np.zeros(n),
        "hard": 1 - 1e-7 * np.arange(n)[::-1] ** 2,  # no gap that float32 could see
    }[scene]
    matrix = (directions * sizes) @ directions.T
    value, vector = jax.jit(leading_eigenpair)(jnp.asarray(0.5 * (matrix + matrix.T), jnp.float32))
    np.testing.assert_allclose(value, sizes.max(), rtol=1e-5)
    assert np.linalg.norm(matrix @ np.asarray(vector, np.float64) - sizes.max() * vector) <= 1e-5 * sizes.max()
    if scene != "equal rows":
        np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scene", ["normal", "outliers", "Byzantine rows close to each other", "ever smaller", "huge", "on a line"]
)
def test_no_subset_is_flatter_than_the_one_found(scene):
    """More subsets than are bounded at a time; bounds that exclude too much would show."""
    n, size = 16, 11
    rows = SCENES[scene](np.random.default_rng(3), n, 40).astype(np.float32).astype(np.float64)
    rows /= np.abs(rows).max()
    found = np.asarray(FLATTEST(rows.astype(np.float32)))
    assert found.sum() == size
    every = np.array(list(itertools.combinations(range(n), size)))
    centred = rows[every] - rows[every].mean(axis=1, keepdims=True)
    largest = np.linalg.eigvalsh(centred @ centred.transpose(0, 2, 1))[:, -1]
    chosen = largest[(every == np.flatnonzero(found)).all(axis=1)]
    assert chosen <= largest.min() * (1 + 1e-5)


FLATTEST = jax.jit(lambda rows: least_spread_subset(pairwise_distances(rows), 11))
COVERABLE = jax.jit(lambda graph, budget: has_cover(graph, jnp.ones(9, bool), budget, 9)[0])


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
        ("multi_krum", {"m": 10}, "m must be at most n - f = 9.*m = n = 11 is the plain average.*got m=10"),
        ("trimmed_mean", {"trim": 1}, "trim must be at least f = 2 and at most .* = 5.*got trim=1"),
        ("trimmed_mean", {"trim": 6}, "trim must be at least f = 2 and at most .* = 5.*got trim=6"),
        ("median_of_means", {"groups": 4}, r"groups must be at least 2f \+ 1 = 5 and at most n = 11.*got groups=4"),
        ("median_of_means", {"groups": 12}, "groups must be at least .*got groups=12"),
        ("monna", {"pivot": 11}, "pivot must be .* -11 to 10, got pivot=11"),
        ("dnc", {"c": 5.5}, r"c must be at most \(n - 1\) / f = 5: .*got c=5.5"),
        ("clipped_clustering", {"history": 10**10}, "history must be at most .*, got history=10000000000"),
        ("bulyan", {"base": "bulyan"}, "base must be another rule: bulyan cannot be its own base"),
        pytest.param(
            "bulyan",
            {"base": {"name": bulyan}},
            "base must be another rule: bulyan cannot be its own base",
            id="itself",
        ),
        ("bulyan", {"base": {"distance": "plain"}}, "base must have a name"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_the_numbers_of_rows_or_each_other_are_refused(name, options, words):
    with pytest.raises(OptionError, match=f"{name}: {words}"):
        aggregators.build(name, 11, 2, **options)


def test_an_unknown_base_of_bulyan_is_refused_with_the_nearest_name():
    with pytest.raises(PartError, match="did you mean 'krum'"):
        aggregators.build("bulyan", 11, 2, base="krun")


def test_smea_refuses_more_subsets_than_it_can_look_at_and_says_what_would_work():
    with pytest.raises(ValueError, match=r"all C\(n, f\) = 10,272,278,170 subsets of n=50.*f is at most 4; brute"):
        aggregators.build("smea", 50, 10)


USERS_RULE = '''
"""A rule as a user writes it: no `among`."""
import numpy as np
import jax.numpy as jnp
from byzax.aggregators.base import Aggregator, Info

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
        sys.modules.pop(f"byzax.aggregators.{name}", None)


def test_bulyan_takes_a_users_rule_without_among_as_its_base(users_folder):
    (users_folder / "upper_median.py").write_text(USERS_RULE.format(name="upper_median", offset=1))
    rule = aggregators.build("bulyan", 8, 1, base="upper_median")
    for rows in integers(30, 8, 2):
        expected = oracles.bulyan(rows, 1, lambda pool, f: np.sort(pool, axis=0)[len(pool) // 2])
        np.testing.assert_allclose(rule.apply(rows, ())[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "base",
    by_day(["median"], ["median", {"name": "krum", "distance": "plain"}, {"name": "multi_krum", "m": 2}]),
    ids=str,
)
def test_bulyan_takes_the_function_of_a_rule_as_it_takes_its_name(base, tmp_path):
    named = {"name": base} if isinstance(base, str) else base
    file = tmp_path / "mine.py"
    file.write_text(f"from byzax.aggregators.{named['name']} import {named['name']}")
    rows = normal(1, 7, 4)[0]
    expected = aggregators.build("bulyan", 7, 1, base=base).apply(rows, ())
    function = aggregators.factory(named["name"])
    forms = [named | {"name": function}, named | {"name": f"{file}:{named['name']}"}]
    for form in forms if len(named) > 1 else [*forms, function, f"{file}:{named['name']}"]:
        found = aggregators.build("bulyan", 7, 1, base=form).apply(rows, ())
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(one, other)


def test_bulyan_says_which_pool_a_base_refuses(users_folder):
    (users_folder / "choosy.py").write_text(USERS_RULE.format(name="choosy", offset=3))
    with pytest.raises(
        ValueError, match=r"pools of 11 down to 5 rows; choosy refuses one of 6 rows: choosy needs n >= 2f \+ 3"
    ):
        aggregators.build("bulyan", 11, 2, base="choosy")


@pytest.mark.slow
def test_the_slope_of_an_order_statistic_is_that_of_the_row_it_came_from():
    rows = integers_apart(np.random.default_rng(4), 13, 6)
    weights = np.random.default_rng(5).normal(size=6).astype(np.float32)
    wanted = [2, 6, 12]

    def total(rows):
        return sum(
            (rank + 1) * value @ weights for rank, value in zip(wanted, order_statistics(rows, wanted), strict=True)
        )

    expected = np.zeros((13, 6))
    for column in range(6):
        for rank in wanted:
            expected[np.argsort(rows[:, column])[rank], column] = (rank + 1) * weights[column]
    np.testing.assert_allclose(jax.grad(total)(jnp.asarray(rows)), expected, rtol=1e-6)
    # forwards, along each row
    moved = np.random.default_rng(6).normal(size=rows.shape).astype(np.float32)
    along = jax.jvp(total, (jnp.asarray(rows),), (jnp.asarray(moved),))[1]
    np.testing.assert_allclose(along, (expected * moved).sum(), rtol=1e-4)


def integers_apart(rng, n, d):
    """Rows whose columns hold different numbers, in another order each."""
    return np.stack([rng.permutation(n) for _ in range(d)], axis=1).astype(np.float32)


@pytest.mark.parametrize("equal", [0, 3, 8, 10, 12, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_many_equal_rows_are_the_geometric_median_where_the_others_do_not_outweigh_them(equal, seed):
    # from so many equal rows on that outweigh the sum of the others' unit vectors, about sqrt(n - equal), or are most
    n, d = 24, 500
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((n, d)).astype(np.float32)
    rows[:equal] = 0.1 * rows[0]
    optimal, wanted = False, np.zeros(n)
    if equal:
        away = rows[equal:].astype(np.float64) - rows[0]
        units = away / np.linalg.norm(away, axis=1, keepdims=True)
        optimal = np.linalg.norm(units.sum(axis=0)) <= equal
        wanted[:equal] = 1 / equal
    found, is_optimal = nearest_optimum(jnp.asarray(rows), jnp.asarray(rows[: equal or n].mean(axis=0)), 1e-6)
    assert bool(is_optimal) == optimal
    rule = geometric_median(n, 11)
    aggregate, _, info = rule.apply(rows, rule.init(d))
    if optimal:
        assert np.array_equal(np.asarray(found), wanted > 0)
        assert np.array_equal(np.asarray(aggregate), rows[0])
        np.testing.assert_allclose(np.asarray(info.weights), wanted, rtol=1e-6)
    else:
        np.testing.assert_allclose(np.asarray(aggregate), oracles.geometric_median(rows, 11), rtol=1e-3, atol=1e-4)


def test_equal_rows_at_the_ends_of_floats_are_left_to_the_search():
    rows = np.full((9, 4), 1e30, np.float32)
    rows[6:] = np.float32(1e-30) * np.arange(12, dtype=np.float32).reshape(3, 4)
    rule = geometric_median(9, 3)
    assert np.isfinite(np.asarray(rule.apply(rows, rule.init(4))[0])).all()
    for bad in (np.nan, np.inf):
        rows[0] = bad
        assert np.isfinite(np.asarray(rule.apply(rows, rule.init(4))[0])).all()
        assert not bool(nearest_optimum(jnp.asarray(rows), jnp.asarray(rows[0]), 1e-6)[1])


def test_the_row_in_the_middle_is_not_one_that_is_noisy_where_it_counts():
    # gradients: a few workers are noisy, each in columns of its own, and sizes of columns differ by orders of magnitude
    generator = np.random.default_rng(0)
    sizes = 10 ** generator.uniform(-4, 0, 20_000)
    noise = np.r_[np.full(20, 1.0), np.full(5, 5.0)][:, None]
    rows = (generator.standard_normal((25, 20_000)) * sizes * noise).astype(np.float32)
    assert int(middle_row(jnp.asarray(rows))) < 20
