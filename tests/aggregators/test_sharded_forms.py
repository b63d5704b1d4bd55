"""Rules over slices of the coordinates: servers that hold one each get what one server with all of them gets."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rules_table import MEMBERS, each, normal

from byzax import aggregators
from byzax.aggregators import Context
from byzax.aggregators.kernels import measures
from byzax.aggregators.kernels.sharding import (
    Slice,
    coordinate_wise,
    largest_of,
    on_whole,
    part_of_next,
    result_of,
    together,
    total_of,
)
from tests.nightly import by_night

N, F, D = 11, 2, 13
UPDATES = 2
# the rules that no server with a slice can apply, with the options for which that is so
REFUSED = {
    "fltrust": "needs a gradient of the whole model",
    "zeno": "needs losses of whole models",
    "bulyan": "a base other than krum is asked once for each row selected",
}


def bounds_of(d, servers):
    """The slices: consecutive, of floor(d / S) or one more."""
    return [d * s // servers for s in range(servers + 1)]


def over_slices(form, d, servers, rows, states, context):
    """One aggregation by servers that hold a slice each, and tell each other what they measure and nothing else.

    Slices are filled up to one width, with zeros. Gives the aggregate, the states, and what the first one says.
    """
    bounds = bounds_of(d, servers)
    width, heard = max(np.diff(bounds)), []
    where = [Slice(begin, end - begin, d) for begin, end in pairwise(bounds)]
    cut = [jnp.pad(rows[:, at.first : at.first + at.size], ((0, 0), (0, width - at.size))) for at in where]

    def steps(s):
        return form.steps(cut[s], states[s], context, where[s])

    for _ in range(form.exchanges):
        heard.append(jnp.stack([part_of_next(steps(s), heard) for s in range(servers)]))
    made, after, info = zip(*(result_of(steps(s), heard) for s in range(servers)), strict=True)
    return jnp.concatenate([part[: at.size] for part, at in zip(made, where, strict=True)]), after, info[0]


def compare(rule, batches, servers):
    """Aggregates and weights of whole rows and of slices, over `[count, updates, n, d]`; compiled once."""
    d, form = batches.shape[-1], rule.sharded
    bounds = bounds_of(d, servers)
    wheres = [Slice(begin, end - begin, d) for begin, end in pairwise(bounds)]
    width = max(np.diff(bounds))

    def follow(updates):
        state, states, found = rule.init(d), [form.init(at, width) for at in wheres], []
        for number in range(batches.shape[1]):
            context = Context(jax.random.key(number))
            whole, state, one = rule.apply(updates[number], state, context)
            parts, states, other = over_slices(form, d, servers, updates[number], states, context)
            found.append((whole, parts, one.weights, other.weights))
        return found

    return jax.tree.map(np.asarray, jax.jit(lambda all: jax.lax.map(follow, all))(batches))


def batches(n, d, seed=0):
    """Updates in general position, and such with bad rows, other scales in other slices, rows far away or close."""
    plain = np.stack([normal(UPDATES, n, d, seed=seed + case) for case in range(9)])
    plain[1, :, 0, 3] = np.nan
    plain[2, 0, 1, d - 1] = -np.inf
    plain[3, :, 0] *= 1e30
    plain[4] += 1000
    plain[5] *= 1e-25
    # in the first coordinates nothing but what one row says, in the last the others stand out
    plain[6, :, 1:, : d // 2] = 0
    plain[6, :, :, -1] *= 1e4
    plain[7, :, :, : d // 3] *= 1e-22
    plain[8, :, : n // 2] = plain[8, :, n // 2 : n // 2 + 1] + 1e-3 * plain[8, :, : n // 2]
    return plain.astype(np.float32)


# next to a row at 1e30 rounding decides which other rows dnc drops
UNDECIDED = {"dnc": [3]}


def check(rule, robust, n=N, d=D, servers=3, seed=0, without=()):
    given = np.delete(batches(n, d, seed), list(without), axis=0)
    finite = np.where(np.isfinite(given), np.abs(given), 0)
    # a rule that promises something gives nothing larger than most rows, others up to the sum of all
    scale = np.median(finite.max(axis=3), axis=2).T if robust else n * finite.max(axis=(2, 3)).T
    for update, (whole, parts, one, other) in enumerate(compare(rule, given, servers)):
        both = np.isfinite(whole) & np.isfinite(parts)
        np.testing.assert_array_equal(np.isnan(whole), np.isnan(parts))
        np.testing.assert_array_equal(whole[~both], parts[~both])
        apart = np.where(both, np.abs(np.where(both, whole, 0) - np.where(both, parts, 0)), 0).max(axis=1)
        np.testing.assert_array_less(apart, 1e-6 * scale[update] + 1e-37)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


SHARDED = [m for m in MEMBERS if aggregators.build(m.name, N, F, **m.options).sharded is not None]
# those that go their own way: by distances, lengths, signs, a state of rows' shape, points in few dimensions, draws
BY_DAY = {"median", "multi_krum", "centered_clipping"}


def test_every_rule_has_a_sharded_form_or_a_reason():
    without = {m.name for m in MEMBERS if aggregators.build(m.name, N, F, **m.options).sharded is None}
    assert without == set(REFUSED)
    assert {m.name for m in MEMBERS} - {m.name for m in SHARDED} == {"fltrust", "zeno"}


@each(SHARDED, BY_DAY)
def test_slices_give_what_the_whole_gives(member):
    check(aggregators.build(member.name, N, F, **member.options), member.robust, without=UNDECIDED.get(member.name, ()))


@pytest.mark.slow
@each(SHARDED)
@pytest.mark.parametrize(("n", "d", "servers"), [(7, 5, 5), (12, 40, 2), (15, 7, 4), (11, 6, 1)])
def test_slices_give_what_the_whole_gives_for_other_numbers(member, n, d, servers):
    f = 1 if n < 15 else 2
    rule = aggregators.build(member.name, n, f, **member.options)
    check(rule, member.robust, n, d, servers, seed=n, without=UNDECIDED.get(member.name, ()))


PRE = ["nnm", "arc", {"name": "clip", "bound": 2.0}, {"name": "bucketing", "s": 2}]


@pytest.mark.parametrize("pre", [[PRE[0]], *(by_night([each]) for each in PRE[1:]), by_night(PRE[:3])])
def test_pre_aggregations_of_slices_give_what_those_of_the_whole_give(pre):
    check(aggregators.build("geometric_median" if len(pre) > 1 else "average", N, F, pre=pre), robust=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dnc", {"coordinates": 5, "iterations": 3}),
        ("signguard", {"share": 0.4}),
        ("signguard", {"share": 0.4, "similarity": "cosine"}),
        ("centered_clipping", {"start": tuple(range(D)), "tau": 2.0, "memory": False}),
    ],
)
def test_draws_and_given_starts_are_those_of_the_whole(name, options):
    check(aggregators.build(name, N, F, **options), robust=True, without=UNDECIDED.get(name, ()))


def test_ties_go_to_the_lowest_index_as_of_the_whole():
    rows = np.random.default_rng(4).integers(-1, 2, size=(60, 1, N, 5)).astype(np.float32)
    whole, parts, one, other = compare(aggregators.build("krum", N, F), rows, 2)[0]
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(whole, parts)


# --- measures ---------------------------------------------------------------------------------------------------------


def joined(exchange_of, slices):
    """The value that servers find from their parts."""
    asked = [exchange_of(part) for part in slices]
    parts = jnp.stack([each.quantity.part(*each.arrays) for each in asked])
    return asked[0].quantity.join(parts, *asked[0].arrays)


# compiled once for rows of one shape
joined_distances = jax.jit(partial(joined, measures.distances_between))
SCALES = [(1, 1), (1e-25, 1), (1e25, 1e-3), (0, 1e30)]


@pytest.mark.parametrize("scales", SCALES)
def test_distances_of_slices_of_any_scale_add_up(scales):
    rng = np.random.default_rng(1)
    slices = [(scale * rng.normal(size=(6, 4))).astype(np.float32) for scale in scales]
    found = joined_distances(slices)
    rows = np.concatenate(slices, axis=1).astype(np.float64)
    expected = ((rows[:, None] - rows[None]) ** 2).sum(axis=2)
    measured = np.asarray(found.squared, np.float64) * float(found.unit) ** 2
    np.testing.assert_allclose(measured, expected, rtol=2e-6)


def test_a_row_that_is_not_finite_in_one_slice_is_far_from_all_in_every_slice():
    slices = [normal(1, 6, 4, seed=2)[0], normal(1, 6, 4, seed=3)[0]]
    slices[1][2, 0] = np.nan
    found = joined_distances(slices)
    assert found.finite.tolist() == [True, True, False, True, True, True]
    assert np.isinf(found.squared[2]).all()
    assert np.isfinite(np.delete(found.squared[0], 2)).all()


@pytest.mark.parametrize("scales", SCALES)
def test_lengths_of_slices_of_any_scale_add_up(scales):
    rng = np.random.default_rng(1)
    slices = [(scale * rng.normal(size=(6, 4))).astype(np.float32) for scale in scales]
    found = joined(lambda part: measures.lengths_from(part, jnp.zeros(4)), slices)
    halves = np.asarray(found.fraction, np.float64) * 2.0 ** np.asarray(found.exponent)
    rows = np.concatenate(slices, axis=1).astype(np.float64)
    np.testing.assert_allclose(2 * halves, np.linalg.norm(rows, axis=1), rtol=1e-6)


def test_points_of_slices_have_the_products_of_the_rows():
    slices = [normal(1, 6, 40, seed=5)[0], normal(1, 6, 3, seed=6)[0]]
    found = np.asarray(joined(measures.points_like, slices), np.float64)
    rows = np.concatenate(slices, axis=1).astype(np.float64)
    np.testing.assert_allclose(found @ found.T, rows @ rows.T, atol=2e-6 * (rows**2).sum(axis=1).max())


def test_values_that_are_asked_for_together_are_those_asked_for_alone():
    slices = [normal(1, 4, 3, seed=7)[0], normal(1, 4, 3, seed=8)[0]]

    def asked(part):
        return together(total_of(part.sum(axis=1)), largest_of(part.max(axis=1)), measures.points_like(part))

    total, largest, points = joined(asked, slices)
    rows = np.concatenate(slices, axis=1)
    np.testing.assert_allclose(total, rows.sum(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(largest, rows.max(axis=1))
    assert points.shape == (4, 4)


# --- declarations -----------------------------------------------------------------------------------------------------


@each(SHARDED, {"median", "multi_krum", "geometric_median", "signguard", "dnc"})
def test_the_number_of_exchanges_is_what_is_asked_for(member):
    form = aggregators.build(member.name, N, F, **member.options).sharded
    at = Slice(0, 4, 4)

    def steps():
        rows, context = jnp.ones((N, 4)), Context(jax.random.key(0))
        return form.steps(rows, form.init(at, 4), context, at)

    heard = []
    for _ in range(form.exchanges):
        with pytest.raises(ValueError, match="asks for more values"):
            jax.eval_shape(partial(lambda heard: result_of(steps(), heard)[0]), heard)
        size = jax.eval_shape(lambda heard: part_of_next(steps(), heard), heard).shape[0]
        heard.append(jax.ShapeDtypeStruct((1, size), jnp.float32))
    with pytest.raises(ValueError, match="its sharded form has more"):
        jax.eval_shape(lambda heard: part_of_next(steps(), heard), heard)
    assert jax.eval_shape(lambda heard: result_of(steps(), heard)[0], heard).shape == (4,)


def test_a_rule_by_coordinates_asks_for_nothing():
    by_itself = coordinate_wise(lambda rows, state, context: (rows.mean(axis=0), state, aggregators.Info()))
    made, _, _ = on_whole(by_itself.steps(jnp.ones((3, 2)), (), None, Slice(0, 2, 4)))
    assert made.tolist() == [1, 1]


# --- the wrong variants -----------------------------------------------------------------------------------------------


def _roots_added(parts, rows):
    found = measures._join_distances(parts, rows)
    each = [measures._join_distances(part[None], rows) for part in parts]
    return found._replace(squared=sum(jnp.sqrt(one.squared) * one.unit for one in each) ** 2 / found.unit**2)


def _of_one_slice(parts, *arrays):
    return measures._join_lengths(parts[:1], *arrays)


MUTANTS = {
    "distances and not their squares are added": ("_DISTANCES", _roots_added, "krum"),
    "each server goes by lengths in its own slice": ("_LENGTHS", _of_one_slice, "norm_clipping"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_comparison_finds_a_wrong_sum(mutant, monkeypatch):
    measure, join, name = MUTANTS[mutant]
    monkeypatch.setattr(measures, measure, getattr(measures, measure)._replace(join=join))
    with pytest.raises(AssertionError):
        check(aggregators.build(name, N, F), robust=True)
