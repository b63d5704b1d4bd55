"""The promises of every rule of the folder, rule by rule from one table."""

import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rules_table import CORE, FEW, MEMBERS, ROBUST, SYMMETRIES, applied, each, normal

from byzax import aggregators
from byzax.options import PartError
from tests.nightly import by_night

# Enough rows for every rule (n >= 4f + 3), and no ties: with f <= 3 the last pools of Bulyan are so small that Krum has
# one neighbour, which two mutual neighbours share, or Multi-Krum averages two rows, equally close to their middle.
N, F, D = 19, 4, 6
RULES = {member.id: member.build(N, F) for member in MEMBERS}
ROWS = normal(1, N, D, seed=7)[0]
OURS = [
    name
    for name in aggregators.available()
    if Path(inspect.getfile(aggregators.factory(name))).parent.parent.name != "plugins"
]


def having(*symmetries, members=MEMBERS, by_day=None):
    assert SYMMETRIES.keys() >= {*symmetries}
    return each([m for m in members if m.lacks.keys().isdisjoint(symmetries)], by_day)


every_rule, every_robust_rule = each(MEMBERS), each(ROBUST)


def aggregate(member, rows):
    rule = RULES[member.id]
    return np.asarray(rule.apply(rows, rule.init(rows.shape[1]))[0])


def test_the_table_holds_every_rule_of_the_folder():
    assert {member.name for member in MEMBERS} == set(OURS)


@every_rule
@pytest.mark.parametrize("f", [0, 1, 2, 3])
def test_the_smallest_n_is_accepted_and_one_less_is_refused_with_what_came(member, f):
    smallest = member.smallest_n(f)
    member.build(smallest, f)
    if smallest > 1:
        with pytest.raises(
            PartError, match=rf"{member.name} needs n >= .*(at most|at least).*got .*{f if f else smallest - 1}"
        ):
            member.build(smallest - 1, f)


@every_rule
@pytest.mark.parametrize(("n", "f", "words"), [(0, 0, "at least one row"), (9, -1, "f >= 0"), (9.5, 1, "whole number")])
def test_impossible_counts_are_refused(member, n, f, words):
    with pytest.raises(PartError, match=f"{member.name} needs.*{words}"):
        member.build(n, f)


def test_the_refusal_names_the_largest_possible_f():
    with pytest.raises(ValueError, match=re.escape("krum needs n >= 2f + 3: with n=10 rows f is at most 3, got f=4")):
        aggregators.build("krum", 10, 4)


@every_rule
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((N - 1, D), np.float32), r"shape \[n, d\] with n=19.*got shape \(18, 6\)"),
        (np.zeros(N, np.float32), "got shape"),
        (np.zeros((N, 0), np.float32), "d >= 1"),
        (np.zeros((N, D), int), "floating point.*int"),
        ([[1.0]] * N, "one array.*list"),
    ],
)
def test_rows_of_the_wrong_kind_are_refused_with_what_came(member, rows, words):
    with pytest.raises(ValueError, match=words):
        RULES[member.id].apply(rows, ())


@having("order", by_day=FEW)
def test_the_order_of_rows_does_not_matter(member):
    shuffled = np.random.default_rng(1).permutation(N)
    np.testing.assert_allclose(aggregate(member, ROWS[shuffled]), aggregate(member, ROWS), rtol=1e-5, atol=1e-6)


@having("translation")
def test_moving_all_rows_moves_the_aggregate(member):
    rows = np.round(ROWS * 64)
    np.testing.assert_allclose(aggregate(member, rows + 2048), aggregate(member, rows) + 2048, rtol=2e-6)


@having("scale")
@pytest.mark.parametrize("factor", [2.0**-70, 2.0**-20, 2.0**70])
def test_scaling_all_rows_scales_the_aggregate(member, factor):
    expected = aggregate(member, ROWS) * factor
    np.testing.assert_allclose(aggregate(member, ROWS * factor), expected, rtol=1e-5, atol=1e-6 * factor)


@having("unanimity")
def test_equal_rows_are_their_own_aggregate(member):
    rows = np.tile(ROWS[:1], (N, 1))
    np.testing.assert_allclose(aggregate(member, rows), ROWS[0], rtol=1e-6)


@having("majority", members=ROBUST)
@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=F * D, max_size=F * D), st.integers(0, 1000))
@example([0.0] * (F * D - 1) + [float(np.float32(5e20))], 0)  # some are near, one is so far that the near ones vanish
def test_where_all_but_f_rows_agree_they_decide(member, bad, seed):
    rows = np.tile(ROWS[:1], (N, 1))
    agreed = aggregate(member, rows)
    rows[np.random.default_rng(seed).permutation(member.suspects(N))[:F]] = np.reshape(bad, (F, D))
    np.testing.assert_allclose(aggregate(member, rows), agreed, rtol=1e-5)


@pytest.mark.parametrize(
    ("member", "symmetry"),
    [
        (by_night if m.nightly else pytest.param)(m, symmetry, id=f"{m.id}-{symmetry}")
        for m in MEMBERS
        for symmetry in m.lacks
    ],
)
def test_what_a_definition_is_said_to_lack_it_lacks(member, symmetry):
    def minorities():
        """Short rows, long rows, some that stand out in one direction beside one that goes there less far, some that
        are opposed beside one that is not far, and some with the same numbers in other places."""
        one, place = np.eye(1, D, 0), np.arange(N)[:, None]
        return (
            0,
            100,
            np.where(place < F - 1, ROWS[:1] + 1000 * one, ROWS[0] + 100 * one).astype(np.float32),
            np.where(place < F - 1, -ROWS[0], ROWS[0] + one).astype(np.float32),
            ROWS[0][::-1],
        )

    aggregates = aggregate(member, ROWS)
    equal = np.tile(ROWS[:1], (N, 1))
    given, expected = {
        "order": lambda: (aggregate(member, ROWS[::-1]), aggregates),
        "translation": lambda: (aggregate(member, ROWS + 2048) - 2048, aggregates),
        "scale": lambda: (aggregate(member, ROWS * 1024), aggregates * 1024),
        "repetition": lambda: (aggregate(member, np.tile(ROWS, (1, 500))), np.tile(aggregates, 500)),
        "unanimity": lambda: (aggregate(member, equal), ROWS[0]),
        "majority": lambda: (
            np.stack([aggregate(member, np.where(np.arange(N)[:, None] < F, bad, equal)) for bad in minorities()]),
            np.stack([aggregate(member, equal)] * 5),
        ),
        "masking": lambda: (diameters_away(member, ONE_HIDES_ANOTHER, 0) <= 1.5, True),
    }[symmetry]()
    assert not np.allclose(given, expected, rtol=1e-2)


BAD = {
    "NaN": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "1e30": 1e30,
    "-1e30": -1e30,
    "largest float": np.finfo(np.float32).max,
    "subnormal": 1e-40,
}


@every_robust_rule
@pytest.mark.parametrize("bad", [*BAD, "one of each", "in one coordinate"])
def test_f_bad_rows_leave_the_aggregate_near_the_honest_rows(member, bad):
    """Near: farther from their mean by no more than 1.5 diameters, which rows that are merely far away reach."""
    suspects = member.suspects(N)
    for positions in (suspects[:F], suspects[-F:], suspects[[3, 7, 8, 12]]):
        rows = ROWS.copy()
        if bad == "one of each":
            rows[positions] = [[np.nan], [np.inf], [-np.inf], [1e30]]
        elif bad == "in one coordinate":
            rows[positions, [1, 4, 0, 0]] = [np.nan, -np.inf, np.inf, np.nan]
        else:
            rows[positions] = BAD[bad]
        honest = np.delete(rows, positions, axis=0)
        diameter = max(np.linalg.norm(a - b) for a in honest for b in honest)
        assert np.linalg.norm(aggregate(member, rows) - honest.mean(axis=0)) <= 1.5 * diameter


def diameters_away(member, bad, seed):
    """Distance of the aggregate from the mean of the honest rows, in their diameters, with F `bad` rows somewhere."""
    rows = ROWS.copy()
    positions = np.random.default_rng(seed).permutation(member.suspects(N))[:F]
    rows[positions] = bad
    honest = np.delete(rows, positions, axis=0)
    diameter = max(np.linalg.norm(a - b) for a in honest for b in honest)
    return np.linalg.norm(aggregate(member, rows) - honest.mean(axis=0)) / diameter


ONE_HIDES_ANOTHER = np.array([[0] * (D - 1) + [last] for last in (795, 0, 0, 94)], np.float32)


@having("masking", members=ROBUST)
@settings(max_examples=15, deadline=None)
@example(ONE_HIDES_ANOTHER.ravel().tolist(), 0)
@example([0.0] * (F * D - 1) + [2.0**126], 0)  # its inverse is no float that XLA keeps
@given(st.lists(st.floats(width=32), min_size=F * D, max_size=F * D), st.integers(0, 1000))
def test_f_rows_of_any_numbers_leave_the_aggregate_near_the_honest_rows(member, bad, seed):
    assert diameters_away(member, np.reshape(bad, (F, D)), seed) <= 1.5


def test_the_largest_floats_hide_no_direction_from_dnc():
    """By themselves; beside others they may, as any row far out: see what dnc is said to lack."""
    member = next(m for m in MEMBERS if m.name == "dnc")
    assert (
        diameters_away(member, np.eye(F, D, D - F, dtype=np.float32) * np.float32([[0], [0], [0], [2.0**126]]), 0) < 1.5
    )


@each(ROBUST, {*FEW, "krum", "dnc"})
def test_one_bad_number_among_many_columns_is_seen(member):
    """XLA's maximum on CPU drops a NaN where it is vectorised, which six columns are too few for."""
    rows = np.tile(ROWS, (1, 500))
    positions = member.suspects(N)[[0, 3, 9, -1]]
    rows[positions, [1, 700, 1501, 2999]] = [np.nan, np.inf, -np.inf, np.nan]
    honest = np.delete(rows, positions, axis=0)
    diameter = max(np.linalg.norm(a - b) for a in honest for b in honest)
    assert np.linalg.norm(aggregate(member, rows) - honest.mean(axis=0)) <= 1.5 * diameter


@each([m for m in ROBUST if "base" not in m.options and "translation" not in m.lacks], {"krum"})
def test_rows_close_together_far_from_the_origin_are_told_apart(member):
    """Raw |x|² + |y|² - 2xy has no digit left here: all distances between the rows would be rounding."""
    rule = RULES[member.id]
    for rows in (1000 + 0.01 * normal(4, N, 500 * D)).astype(np.float32):
        far, near = (
            rule.apply(moved, rule.init(500 * D))[2].weights for moved in (rows, rows - 1000)
        )  # the difference is exact
        if near is not None:
            np.testing.assert_allclose(far, near, atol=1e-6)


@having("repetition", members=ROBUST, by_day={*FEW, "krum", "dnc"})
def test_many_columns_are_decided_as_few(member):
    few = aggregate(member, ROWS)
    np.testing.assert_allclose(aggregate(member, np.tile(ROWS, (1, 500))), np.tile(few, 500), rtol=1e-4, atol=1e-5)


@every_robust_rule
def test_at_the_smallest_n_f_bad_rows_leave_the_aggregate_finite(member):
    n = member.smallest_n(1)
    rows = np.tile(normal(1, n, 5, seed=2), (len(BAD), 1, 1))
    first = member.suspects(n)[0]
    rows[:, first] = np.array(list(BAD.values()), np.float32)[:, None]
    largest = np.abs(np.delete(rows, first, axis=1)).max()
    # the compiled function is that of the comparison with the oracle
    found = np.asarray(applied(member, rows, 1)[0])
    assert (np.abs(found).max(axis=1) <= 5 * largest).all(), dict(zip(BAD, found.tolist(), strict=True))


@having("unanimity", by_day=FEW)
def test_one_row_alone_is_its_own_aggregate_where_the_rule_allows_it(member):
    n = member.smallest_n(0)
    rows = normal(1, n, 1, seed=3)[0]
    rule = member.build(n, 0)
    result = np.asarray(rule.apply(rows, rule.init(1))[0])
    assert result.shape == (1,)
    assert rows.min() <= result[0] <= rows.max()


@each(MEMBERS, FEW)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_dtype_of_the_rows_is_kept_for_numpy_and_jax_arrays(member, dtype):
    rows = jnp.asarray(ROWS, dtype)
    rule = RULES[member.id]
    from_jax, _, _ = rule.apply(rows, rule.init(D))
    from_numpy, _, _ = rule.apply(np.asarray(rows), rule.init(D))
    assert from_jax.dtype == from_numpy.dtype == dtype
    np.testing.assert_array_equal(np.asarray(from_jax, np.float32), np.asarray(from_numpy, np.float32))
    # computed in float32 and rounded once
    expected = aggregate(member, np.asarray(rows, np.float32)).astype(dtype)
    np.testing.assert_array_equal(np.asarray(from_jax, np.float32), np.asarray(expected, np.float32))


@each([m for m in MEMBERS if "translation" in m.lacks], {*CORE, "cge", "fltrust"})
def test_float64_rows_give_what_the_oracle_gives_to_twelve_digits(member):
    with jax.enable_x64(True):
        rule = member.build(N, F)
        rows = ROWS.astype(np.float64) / 3
        result, _, _ = rule.apply(rows, rule.init(D))
        assert result.dtype == np.float64
    np.testing.assert_allclose(result, member.oracle(rows, F), rtol=1e-12)


@having("translation", "scale", by_day=FEW)
def test_float64_rows_are_computed_in_float64(member):
    with jax.enable_x64(True):
        rule = member.build(N, F)
        rows = 1e6 + 1e-3 * ROWS.astype(np.float64)  # in float32 these rows are all equal
        result, _, _ = rule.apply(rows, rule.init(D))
        assert result.dtype == np.float64
        moved = (np.asarray(result) - 1e6) * 1e3
    np.testing.assert_allclose(moved, member.oracle(ROWS, F), atol=1e-5)


@each(MEMBERS, FEW)
def test_jit_and_vmap_give_the_same_aggregate(member):
    rule = RULES[member.id]
    batches = normal(2, N, D, seed=5)
    plain = np.stack([rule.apply(rows, rule.init(D))[0] for rows in batches])
    mapped = jax.jit(jax.vmap(lambda rows: rule.apply(rows, rule.init(D))[0]))(batches)
    np.testing.assert_allclose(mapped, plain, rtol=1e-5, atol=1e-6)


@every_rule
def test_a_second_call_of_the_same_shape_traces_and_compiles_nothing(member):
    aggregate(member, ROWS)
    events = []
    listener = lambda event, duration, **_: events.append(event)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        aggregate(member, ROWS + 1)
        assert not events
        jax.jit(lambda x: x + 1)(1)  # a new function does: the listener listens
        assert events
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


@every_rule
def test_the_rows_are_not_written_to(member):
    rows = ROWS.copy()
    rows.setflags(write=False)
    aggregate(member, rows)
    np.testing.assert_array_equal(rows, ROWS)


@every_rule
def test_weights_are_a_share_of_each_row(member):
    rule = RULES[member.id]
    bad = ROWS.copy()
    bad[member.suspects(N)[-F:]] = np.nan
    for rows in (ROWS, bad):
        result, _, info = rule.apply(rows, rule.init(D))
        if member.weights == "none":
            assert info.weights is None
        elif member.robust or np.isfinite(rows).all():
            weights = np.asarray(info.weights, np.float64)
            assert weights.shape == (N,)
            assert (weights >= 0).all()
            assert weights.sum() == pytest.approx(1, abs=1e-5)
            if member.weights == "shares":
                np.testing.assert_allclose(weights[weights > 0] @ rows[weights > 0], result, atol=1e-5)


@every_rule
def test_a_rule_is_declared_linear_where_the_aggregate_is_the_weighted_sum_of_the_rows(member):
    """Over three updates, in the last of which a row is far away: what clips or divides shows there at the latest."""
    rule = RULES[member.id]
    state, sums = rule.init(D), []
    for rows in normal(3, N, D, seed=13) * np.where(np.arange(N) == N - 2, [[1], [1], [1000]], 1)[..., None]:
        rows = rows.astype(np.float32)
        result, state, info = rule.apply(rows, state)
        if info.weights is None:
            assert not rule.linear
            return
        terms = np.asarray(info.weights, np.float64)[:, None] * rows
        sums.append(np.allclose(terms.sum(axis=0), result, rtol=1e-3, atol=1e-3 * np.abs(terms).max()))
    assert rule.linear == all(sums)


@each(MEMBERS, FEW)
def test_a_pool_within_the_rows_gives_what_the_rule_gives_for_the_pool_alone(member):
    rule = RULES[member.id]
    assert (rule.among is not None) == member.pools
    if rule.among is None:
        return
    alive = np.ones(N, bool)
    alive[[0, 4]] = False
    rows = np.where(alive[:, None], ROWS, np.nan)  # what is not alive must not be looked at
    np.testing.assert_allclose(
        jax.jit(lambda rows, alive: rule.among(rows)(alive))(rows, alive),
        member.oracle(ROWS[alive], F),
        rtol=1e-5,
        atol=1e-6,
    )
