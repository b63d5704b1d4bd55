"""Pre-aggregations, against float64 versions written from the papers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rules_table import normal

from byzax import aggregators
from byzax.aggregators import Context, pre
from tests.nightly import by_day, by_night

N, F, D = 15, 3, 6
ROWS = normal(1, N, D, seed=11)[0]
CONTEXT = Context(jax.random.key(5))


def nnm(rows, f):
    rows = np.asarray(rows, np.float64)
    squared = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    nearest = np.argsort(squared, axis=1, kind="stable")[:, : len(rows) - f]
    return rows[nearest].mean(axis=1)


def clip(rows, f, bound=1.0):
    rows = np.asarray(rows, np.float64)
    return rows * np.minimum(1, bound / np.linalg.norm(rows, axis=1))[:, None]


def arc(rows, f):
    rows, n = np.asarray(rows, np.float64), len(rows)
    lengths = np.linalg.norm(rows, axis=1)
    bound = np.sort(lengths)[::-1][int(2 * (f / n) * (n - f))]
    return clip(rows, f, bound)


ORACLES = {"nnm": (nnm, {}), "clip": (clip, {}), "arc": (arc, {})}


def mixed(name, rows, f=F, **options):
    mixer = pre.factory(name)(len(rows), f, **options)
    result, shares = mixer.mix(jnp.asarray(rows), CONTEXT)
    assert result.shape == (mixer.kept, rows.shape[1])
    assert shares.shape == (mixer.kept, len(rows))
    return np.asarray(result), np.asarray(shares)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("n", "f"), [(15, 3), by_night(15, 0), by_night(7, 3), by_night(12, 4)])
def test_each_equals_its_oracle(name, n, f):
    oracle, options = ORACLES[name]
    mixer = pre.factory(name)(n, f, **options)
    for rows in 3 * normal(20, n, D, seed=n):
        np.testing.assert_allclose(mixer.mix(rows, CONTEXT)[0], oracle(rows, f), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("f", "shortened"), [(0, 0), by_night(1, 1), (3, 4), by_night(5, 6), (7, 7)])
def test_arc_shortens_as_many_rows_as_the_paper_says(f, shortened):
    rows = np.arange(1, 16, dtype=np.float32)[:, None]
    assert (mixed("arc", rows, f)[0] < rows).sum() == shortened


SIZES = np.array([1e-30, 1e-20, 1, 1e20, 1e30, 1e38])
UNITS = np.array([[0, 1, 0], [0.6, 0, -0.8], [-1, 0, 0]] * 2)


@pytest.mark.parametrize("bound", [1e-30, 1, 1e30])
def test_rows_of_any_size_are_shortened_to_the_bound(bound):
    rows = (SIZES[:, None] * UNITS).astype(np.float32)
    expected = np.minimum(SIZES, bound)[:, None] * UNITS
    np.testing.assert_allclose(mixed("clip", rows, 0, bound=bound)[0], expected, rtol=3e-7, atol=0)


def test_the_longest_row_of_any_size_is_shortened_to_the_next_of_any_size():
    mixer = pre.factory("arc")(3, 1)
    for size, following in itertools.product(SIZES, SIZES):
        rows = (np.array([[size], [min(size, following)], [0]]) * UNITS[:3]).astype(np.float32)
        expected = np.array([[min(size, following)], [min(size, following)], [0]]) * UNITS[:3]
        np.testing.assert_allclose(mixer.mix(rows, None)[0], expected, rtol=3e-7, atol=0)


def test_rows_no_longer_than_the_bound_are_left_as_they_are_to_the_last_bit():
    np.testing.assert_array_equal(mixed("clip", ROWS, bound=100.0)[0], ROWS)
    np.testing.assert_array_equal(mixed("arc", ROWS, 0)[0], ROWS)


@pytest.mark.parametrize("s", by_day([2, 4], (1, 2, 4, 7, 15)))
def test_buckets_hold_each_row_once_and_are_means(s):
    result, shares = mixed("bucketing", ROWS, s=s)
    assert len(result) == -(-N // s)
    sizes = (shares > 0).sum(axis=1)
    assert sizes.tolist() == [s] * (N // s) + ([N % s] if N % s else [])
    assert ((shares > 0).sum(axis=0) == 1).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(result, shares @ ROWS, rtol=1e-5, atol=1e-6)


def test_buckets_are_dealt_anew_with_every_key():
    mixer = pre.factory("bucketing")(N, F)
    deals = {np.asarray(mixer.mix(ROWS, Context(jax.random.key(k)))[1]).tobytes() for k in range(20)}
    assert len(deals) == 20
    # every pair of rows meets about equally often: 14 partners, 1/15 of the time the row stands alone
    together = sum(np.asarray((lambda s: s.T @ s > 0)(np.asarray(mixer.mix(ROWS, Context(jax.random.key(k)))[1])))
                   for k in range(300))  # fmt: skip
    others = together[~np.eye(N, dtype=bool)]
    assert 5 < others.min() <= others.max() < 45


@pytest.mark.parametrize(
    ("n", "f", "bad"),
    [(15, 3, 0), (15, 3, 2), by_night(15, 7, 9), (15, 3, 15), by_night(130, 40, 12), by_night(130, 40, 95)],
)
def test_nnm_takes_of_equally_near_rows_the_lowest_and_those_with_bad_numbers_last(n, f, bad):
    generator = np.random.default_rng(bad)
    rows = generator.integers(-2, 3, (n, 3)).astype(np.float32)  # many distances tie, and all are exact
    spoilt = generator.permutation(n)[:bad]
    rows[spoilt, generator.integers(0, 3, bad)] = generator.choice([np.nan, np.inf], bad)
    away = ~np.isfinite(rows).all(axis=1)
    clean = np.where(away[:, None], 0, rows)
    squared = ((clean[:, None] - clean[None]) ** 2).sum(axis=2)
    squared[away | away[:, None]] = np.inf
    nearest = np.lexsort((squared, np.broadcast_to(away, (n, n))), axis=1)[:, : n - f]
    expected = np.zeros((n, n))
    np.put_along_axis(expected, nearest, 1 / (n - f), axis=1)
    _, shares = pre.factory("nnm")(n, f).mix(jnp.asarray(rows), CONTEXT)
    np.testing.assert_allclose(shares, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["nnm", "arc", "clip"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30, -1e30, 1e-40])
def test_f_bad_rows_leave_the_honest_rows_finite(name, bad):
    rows = ROWS.copy()
    rows[[0, 4, 9]] = bad
    honest = np.delete(np.arange(N), [0, 4, 9])
    result = mixed(name, rows)[0][honest]
    assert np.abs(result).max() <= np.abs(ROWS).max()


@pytest.mark.parametrize(
    "chain",
    by_day([["clip"]], (["nnm"], ["arc", "nnm"], ["nnm", {"name": "bucketing", "s": 2}], ["clip"])),
    ids=str,
)
def test_a_rule_behind_them_is_the_rule_of_what_they_make_and_weights_reach_the_rows(chain):
    rule = aggregators.build("multi_krum", N, 2, pre=chain)
    result, _, info = rule.apply(ROWS, rule.init(D), CONTEXT)
    rows, left = jnp.asarray(ROWS), N
    for place, part in enumerate(chain):
        options = {"name": part} if isinstance(part, str) else dict(part)
        mixer = pre.factory(options.pop("name"))(left, 2, **options)
        rows, _ = mixer.mix(rows, Context(jax.random.fold_in(CONTEXT.key, place)))
        left = mixer.kept
    alone = aggregators.build("multi_krum", left, 2)
    np.testing.assert_allclose(result, alone.apply(rows, alone.init(D))[0], rtol=1e-6)
    assert info.weights.shape == (N,)
    assert info.weights.sum() == pytest.approx(1, abs=1e-5)
    if not {"arc", "clip"} & {part for part in chain if isinstance(part, str)}:
        np.testing.assert_allclose(info.weights @ ROWS, result, atol=1e-5)


def test_dtypes_are_kept_and_a_second_call_compiles_nothing():
    rule = aggregators.build("median", N, F, pre=["nnm", {"name": "bucketing", "s": 2}])
    half = jnp.asarray(ROWS, jnp.bfloat16)
    assert rule.apply(half, (), CONTEXT)[0].dtype == jnp.bfloat16
    whole = jax.jit(lambda rows, key: rule.apply(rows, (), Context(key))[0])
    first = whole(ROWS, jax.random.key(0))
    assert first.dtype == jnp.float32
    whole(ROWS + 1, jax.random.key(1))
    assert whole._cache_size() == 1


def test_conditions_compose():
    with pytest.raises(
        ValueError, match=r"krum needs n >= 2f \+ 3: with n=8 rows .* got f=3 .*; of the n=15 rows 8 are left"
    ):
        aggregators.build("krum", 15, 3, pre=[{"name": "bucketing", "s": 2}])
    with pytest.raises(ValueError, match=r"nnm needs n >= 2f \+ 1.*got f=3"):
        aggregators.build("average", 15, 3, pre=[{"name": "bucketing", "s": 3}, "nnm"])
    aggregators.build("krum", 15, 2, pre=[{"name": "bucketing", "s": 2}])


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("nmn", "unknown pre-aggregation 'nmn'; did you mean 'nnm'"),
        ({"name": "bucketing", "s": 0}, "bucketing: s must be at least 1, got 0"),
        ({"name": "bucketing", "s": 16}, "bucketing: s must be at most n = 15.*got s=16"),
        ({"name": "bucketing", "s": 2.5}, "bucketing: s must be a whole number, got 2.5"),
        ({"name": "clip", "bound": 0}, "clip: bound must be greater than 0, got 0"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_work(part, words):
    with pytest.raises(ValueError, match=words):
        aggregators.build("median", N, F, pre=[part])


def test_what_draws_asks_for_a_key():
    rule = aggregators.build("median", N, F, pre=["bucketing"])
    with pytest.raises(ValueError, match=r"bucketing draws: .*Context\(key="):
        rule.apply(ROWS, ())
