"""Every rule equals a float64 oracle written from its paper, ties included, on hundreds of cases each."""

import itertools
from functools import partial

import jax
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules_table import MEMBERS, agree, applied, attacked, each, integers, normal, outputs

from byzax import aggregators
from tests.nightly import by_day, by_night

EXACT = {"median", "krum", "multi_krum", "brute", "trimmed_mean", "mean_around_median", "phocas", "sign_majority"}
EXACT |= {"cge", "aksel", "monna", "medoid"}  # decided by sums of whole numbers, so that ties are ties in float32
# by day with one Byzantine row; the rules of CORE meet two in the tests with mutants
byzantine_rows = pytest.mark.parametrize("f", by_day([1], (1, 2)))


@each(MEMBERS)
@byzantine_rows
def test_each_rule_equals_its_oracle_on_random_attacked_and_collinear_rows(member, f):
    slow_oracle = member.options.get("base") in ("brute", "geometric_median")
    count = 10 if slow_oracle else 40
    n = member.smallest_n(f) + f - 1
    batches = np.concatenate([normal(count, n, 5, seed=n), attacked(count, n, 5, f, seed=n), normal(count, n, 5)])
    if "geometric_median" not in (member.name, member.options.get("base")):  # on a line it need not be unique
        batches[2 * count :, :, 1:] = 0
    # Whole numbers, since a middle of two rows is equally far from both: float32 and float64 should say so alike.
    batches = np.round(100 * batches)
    right = agree(outputs(member, batches, f), batches, f, member.oracle)
    assert right.all(), f"n={n}, f={f}: {np.flatnonzero(~right)}, {batches[~right][0].tolist()}"


@pytest.mark.parametrize("member", [m for m in MEMBERS if m.name in EXACT and not m.options], ids=lambda m: m.id)
@byzantine_rows
def test_ties_between_whole_numbers_go_to_the_lowest_index(member, f):
    n = member.smallest_n(f)
    batches = integers(240, n, 3, seed=n)
    batches[:80, :, 1:] = 0  # on a line
    batches[80:160, :, 2:] = 0
    right = agree(outputs(member, batches, f), batches, f, member.oracle)
    assert right.all(), f"n={n}, f={f}: rows {batches[~right][0].tolist()}"


@pytest.mark.parametrize(
    ("options", "n", "f"),
    [
        ({}, 7, 1),
        *(by_night({}, *size) for size in ((12, 2), (8, 1), (3, 0), (4, 0))),
        *(
            by_night(options, *size)
            for options in ({"median": "mid"}, {"median": "upper"}, {"base": "median"})
            for size in ((7, 1), (12, 2))
        ),
    ],
    ids=str,
)
def test_bulyan_equals_the_naive_recursion_where_rows_and_distances_tie(options, n, f):
    base = {"krum": oracles.krum, "median": oracles.median}[options.get("base", "krum")]
    kind = options.get("median", "lower")
    (member,) = [m for m in MEMBERS if m.name == "bulyan" and m.options == options]
    batches = integers(80, n, 2, seed=n)
    right = agree(outputs(member, batches, f), batches, f, lambda rows, f: oracles.bulyan(rows, f, base, kind))
    assert right.all(), f"n={n}, f={f}: rows {batches[~right][0].tolist()}"


@pytest.mark.slow
@pytest.mark.parametrize("fewer", [0, 1, 3])
def test_multi_krum_averages_any_number_of_rows_up_to_all_but_f(fewer):
    """byzfl's is m = n - f with n - f - 1 neighbours."""
    for n, f in [(11, 2), (9, 3)]:
        m = n - f - fewer
        rule = aggregators.build("multi_krum", n, f, m=m, neighbours="n-f-1")
        for rows in np.round(100 * np.concatenate([normal(8, n, 5, seed=n), attacked(8, n, 5, f, seed=n)])):
            expected = oracles.multi_krum(rows, f, m=m, neighbours=n - f - 1)
            np.testing.assert_allclose(rule.apply(rows, ())[0], expected, rtol=2e-5, atol=1e-3)
    with pytest.raises(ValueError, match=r"multi_krum: m must be at most n - f = 6: .*got m=7"):
        aggregators.build("multi_krum", 9, 3, m=7)


# a rule and what it gives where nothing is proven any more, at the fewest rows that it takes then
UNPROVEN = {
    "krum": (5, oracles.krum),
    "multi_krum": (5, oracles.multi_krum),
    "bulyan": (9, oracles.bulyan),
}


@pytest.mark.parametrize("name", UNPROVEN)
def test_fewer_rows_than_proven_are_taken_on_purpose_alone(name):
    n, _ = UNPROVEN[name]
    factor = 4 if name == "bulyan" else 2
    for few in (n, n + 1):
        with pytest.raises(ValueError, match=rf"got f=2 \(or unproven: true, which takes n >= {factor}f \+ 1\)"):
            aggregators.build(name, few, 2)
    with pytest.raises(ValueError, match=rf"{name} needs n >= {factor}f \+ 1") as refused:
        aggregators.build(name, n - 1, 2, unproven=True)
    assert "unproven" not in str(refused.value)
    with pytest.raises(ValueError, match="needs n >=") as refused:
        aggregators.build(name, n - 1, 2)
    # no way out where it is none
    assert "unproven" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNPROVEN)
def test_fewer_rows_than_proven_give_what_the_definition_says(name):
    n, oracle = UNPROVEN[name]
    for size in (n, n + 1):
        rule = aggregators.build(name, size, 2, unproven=True)
        for rows in np.round(100 * normal(10, size, 5, seed=size)):
            np.testing.assert_allclose(rule.apply(rows, ())[0], oracle(rows, 2), rtol=2e-5, atol=1e-3)
    # and where it is proven the option changes nothing
    rows = normal(1, 11, 5)[0]
    plain, allowed = (
        aggregators.build(name, 11, 2, **options).apply(rows, ())[0] for options in ({}, {"unproven": True})
    )
    np.testing.assert_array_equal(plain, allowed)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("geometric_median", {"iterations": 3}, "iterations must be left out, or nu given.*got 3"),
        ("geometric_median", {"start": "mean"}, "start must be left out, or nu given.*got 'mean'"),
        ("geometric_median", {"nu": 0.1, "tolerance": 1e-3}, "tolerance must be left out with nu.*got 0.001"),
        ("geometric_median", {"nu": 0.0}, "nu must be greater than 0, got 0.0"),
        ("geometric_median", {"nu": 0.1, "iterations": 1001}, "iterations must be at most 1000, got 1001"),
        ("geometric_median", {"nu": 0.1, "start": "median"}, "start must be 'zero' or 'mean', got 'median'"),
        ("centered_clipping", {"start": "last"}, "start must be 'zero', 'median' or 'mean' or a list, got 'last'"),
        ("centered_clipping", {"start": (0.0, float("inf"))}, "start must be .*a finite number, got"),
        ("median", {"median": "middle"}, "median must be 'lower', 'mid' or 'upper', got 'middle'"),
        ("krum", {"neighbours": "n-f-4"}, "neighbours must be 'n-f', 'n-f-1', 'n-f-2' or 'n-f-3', got 'n-f-4'"),
    ],
)
def test_options_out_of_range_are_refused_with_what_came(name, options, words):
    with pytest.raises(ValueError, match=f"{name}.*{words}"):
        aggregators.build(name, 11, 2, **options)


def test_a_base_of_bulyan_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"bulyan: base must have a name.*got \{'distance': 'plain'\}"):
        aggregators.build("bulyan", 11, 2, base={"distance": "plain"})
    with pytest.raises(ValueError, match="krum: distance must be 'plain', 'squared' or 'fourth', got 'plan'"):
        aggregators.build("bulyan", 11, 2, base={"name": "krum", "distance": "plan"})


def caf_cases(n, f, d):
    """500 times rows: noise, Byzantine rows together or each by itself near and far, equal rows."""
    rng = np.random.default_rng(n)
    batches = rng.normal(size=(500, n, d))
    for number, rows in enumerate(batches):
        if number % 3 == 1:
            rows[:f] += rng.normal(size=d) * 10 ** rng.uniform(-1, 6)
        if number % 3 == 2:
            rows[:f] *= 10 ** rng.uniform(0, 6, size=(f, 1))
        if number % 7 == 0:
            rows[-1] = rows[-2]
    return batches


@pytest.mark.slow
@pytest.mark.parametrize(("n", "f", "d"), [(9, 4, 8), (15, 5, 3)])
def test_caf_is_algorithm_2_to_nine_digits_in_hundreds_of_cases(n, f, d):
    """Rows nearly as far as the farthest keep c (1 - t / max t); where they lost all weight, answers were far off."""
    cut_too_early = 0
    batches = caf_cases(n, f, d)
    with jax.enable_x64(True):
        rule = aggregators.build("caf", n, f)
        found = jax.jit(partial(jax.lax.map, lambda each: rule.apply(each, ())[0]))(batches)
    for rows, answer in zip(batches, np.asarray(found), strict=True):
        expected, size = oracles.caf(rows, f), np.abs(rows[f:]).max()
        assert np.abs(answer - expected).max() <= 1e-9 * size
        cut_too_early += n == 9 and np.abs(oracles.caf(rows, f, tie=1e-5) - expected).max() > 1e-9 * size
    assert n != 9 or cut_too_early > 5


@pytest.mark.parametrize("name", by_day(["signguard"], ("clipped_clustering", "signguard")))
def test_what_is_nearly_tied_is_no_tie_in_float64(name):
    """Differences of 1e-7 of the distances, lengths or shares decide as any other."""
    with jax.enable_x64(True):
        if name == "clipped_clustering":
            # row 1 is nearer to 2 than to 0 by 1e-7: {1, 2} and then 3 are the larger cluster
            angles = np.cumsum([0, 0.3, 0.3 * (1 - 1e-7), 0.5])
            rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            weights = aggregators.build(name, 4, 1).apply(rows, aggregators.build(name, 4, 1).init(2))[2].weights
            expected = oracles.clipped_clustering(rows, 1, tie=1e-13)
            found = weights @ rows
        else:
            # one row is shorter than a tenth of the median by 1e-7
            rows = np.array([[1.0, 1], [1, 1], [1, 1], [1, 1], [0.1 * (1 - 1e-7), 0.1 * (1 - 1e-7)]])
            found = aggregators.build(name, 5, 1, share=1.0).apply(rows, ())[2].weights
            expected = [0.25] * 4 + [0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("n", "f"), [(3, 1), *(by_night(*size) for size in ((5, 2), (1, 0), (4, 1), (7, 3), (8, 2), (9, 4)))]
)
def test_brute_finds_the_first_smallest_subset_in_hundreds_of_small_cases(n, f):
    (member,) = [m for m in MEMBERS if m.name == "brute"]
    batches = np.concatenate([integers(200, n, 3, seed=n), normal(100, n, 3, seed=n)])
    batches[:50, :, 1:] = 0  # on a line
    weights = applied(member, batches, f)[1].weights
    for rows, weight in zip(batches, np.asarray(weights), strict=True):
        assert tuple(np.flatnonzero(weight)) == oracles.smallest_diameter_subset(rows, f), rows.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("n", "f"), [(20, 9), (50, 10), (51, 12)])
def test_brute_finds_the_planted_cluster_where_nobody_can_enumerate(n, f):
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(n, 20)).astype(np.float32)
    outside = rng.permutation(n)[:f]
    rows[outside] *= 30
    rule = aggregators.build("brute", n, f)
    weights = np.asarray(rule.apply(rows, ())[2].weights)
    assert set(np.flatnonzero(weights == 0)) == set(outside)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        by_night([[0, 0], [-4, 1], [3, 1]], [0, 0]),  # an angle above 120 degrees: its vertex
        by_night([[0], [1], [5], [7], [100]], [5]),  # on one line: the middle row
        ([[0, 0], [1, 1], [2, 2], [3, 3], [90, 90]], [2, 2]),
        by_night([[0, 0], [2, 0], [0, 2], [2, 2]], [1, 1]),  # a convex quadrangle: where the diagonals cross
        by_night([[0, 0], [1, 0], [0.5, 3**0.5 / 2]], [0.5, 3**0.5 / 6]),  # an equilateral triangle: its centre
        ([[1, 2], [1, 2], [1, 2], [9, 9], [-5, 3]], [1, 2]),  # most rows equal: that row
        by_night([[3, 4]], [3, 4]),
    ],
)
def test_the_geometric_median_is_what_geometry_says(rows, expected):
    rows = np.array(rows, np.float32)
    rule = aggregators.build("geometric_median", len(rows), 0)
    np.testing.assert_allclose(rule.apply(rows, ())[0], expected, atol=2e-6)


# all but two of one shape, which compiles once
HARD = {
    "colluding": lambda rng: np.concatenate([rng.normal(size=(11, 3)), np.full((9, 3), 100.0)]),
    "nearly on a line": lambda rng: rng.normal(size=(20, 1)) * rng.normal(size=3) + 1e-3 * rng.normal(size=(20, 3)),
    "duplicates": lambda rng: np.repeat(rng.normal(size=(6, 3)), [6, 2, 1, 4, 5, 2], axis=0),
    "high-dimensional": lambda rng: rng.normal(size=(20, 3000)),
    "two clusters": lambda rng: rng.normal(size=(20, 3)) + 50 * np.repeat([[0.0], [1.0]], [11, 9], axis=0),
    "next to a row": lambda rng: np.array([[0, 0], *(np.array([[-1, 1], [1, 1]]) / [[3**0.5 - 1e-2, 1]])]),
    "tiny": lambda rng: 1e-20 * rng.normal(size=(20, 3)),
    "huge": lambda rng: 1e20 * rng.normal(size=(20, 3)),
}


@pytest.mark.parametrize("kind", by_day(("colluding", "nearly on a line", "tiny"), HARD))
def test_the_geometric_median_is_certified_in_float64(kind):
    """The unit vectors towards the rows sum to less than the tolerance, or to less than what equal rows hold."""
    with jax.enable_x64(True):
        rows = np.asarray(HARD[kind](np.random.default_rng(3)), np.float64)
        rule = aggregators.build("geometric_median", len(rows), 0, tolerance=1e-11, max_iterations=40)
        differences = np.asarray(rule.apply(rows, ())[0]) - rows
    lengths = np.linalg.norm(differences, axis=1)
    others = lengths > 1e-14 * np.abs(rows).max()
    pull = np.linalg.norm((differences[others] / lengths[others, None]).sum(axis=0))
    assert pull <= np.sum(~others) + 1e-9 * len(rows)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3]))
def test_no_point_has_a_smaller_sum_of_distances_than_the_geometric_median(seed, d):
    rows = integers(1, 7, d, seed=seed)[0]
    rule = GEOMETRIC_MEDIAN
    found = np.asarray(rule.apply(rows, ())[0], np.float64)
    best = oracles.geometric_median(rows, 0)

    def objective(z):
        return np.linalg.norm(rows - z, axis=1).sum()

    assert objective(found) <= objective(best) + 1e-5


GEOMETRIC_MEDIAN = aggregators.build("geometric_median", 7, 3)


def test_all_pairs_of_small_whole_rows_are_decided_as_by_the_median_oracle():
    rows = np.array(list(itertools.product([-1, 0, 2], repeat=4)), np.float32)[..., None]
    (member,) = [m for m in MEMBERS if m.name == "median" and not m.options]
    assert agree(outputs(member, rows, 1), rows, 1, oracles.median).all()


@pytest.mark.parametrize(
    "name",
    [
        "trimmed_mean",
        "mean_around_median",
        "phocas",
        *map(by_night, ("brute", "cge", "aksel", "monna", "multi_krum", "smea")),
    ],
)
def test_without_byzantine_rows_the_rules_that_drop_them_are_the_average(name):
    """The trap is a slice [f:-f], which is empty for f = 0."""
    rows = np.round(100 * normal(1, 7, 5)[0])
    options = {"multi_krum": {"m": 7}, "aksel": {"count": "n-f"}}.get(name, {})
    rule = aggregators.build(name, 7, 0, **options)
    np.testing.assert_allclose(rule.apply(rows, ())[0], rows.mean(axis=0), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("trim", [2, 3, 4, 5])
def test_more_values_trimmed_than_f_end_at_the_median(trim):
    rows = normal(1, 11, 5)[0]
    found = aggregators.build("trimmed_mean", 11, 2, trim=trim).apply(rows, ())[0]
    np.testing.assert_allclose(found, oracles.trimmed_mean(rows, trim), rtol=1e-5)
    if trim == 5:
        np.testing.assert_allclose(found, np.median(rows, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    by_day(
        ["median", "trimmed_mean"], ("median", "trimmed_mean", "mean_around_median", "phocas", "aksel", "sign_majority")
    ),
)
def test_many_rows_are_decided_as_few(name):
    """Above 96 rows the columns are sorted in another way."""
    rows = np.round(100 * normal(1, 101, 7)[0])
    rows[:30] *= 1e4
    found = aggregators.build(name, 101, 30).apply(rows, ())[0]
    np.testing.assert_allclose(found, getattr(oracles, name)(rows, 30), rtol=1e-5, atol=1e-3)
