"""Rows that are no numbers: for some rules such a row is as if it had been left out, states included."""

import jax
import numpy as np
import pytest
from rules_table import ROBUST, each, normal

from tests.nightly import by_day

N, F, D = 19, 4, 6
BAD = 2  # whose row it is
# the rules for which n rows with one of NaN, of f doubted, are the n - 1 others of which f - 1 are doubted
LEFT_OUT = {
    "brute", "cge", "clipped_clustering", "dnc", "fltrust", "geometric_median", "krum", "medoid", "monna", "multi_krum",
    "sign_majority", "smea", "zeno",
}  # fmt: skip
# and those that count it among n, as the farthest or, by coordinate, as the largest: a row far away is the same to them
FAR = {"aksel", "bulyan", "caf", "mean_around_median", "median", "phocas", "trimmed_mean"}
# a row that has no direction and pulls nowhere, and is among the n that are divided by, is like no row of numbers
NO_DIRECTION = {"centered_clipping", "median_of_means", "norm_clipping", "signguard"}
# three updates; in which of them the row is bad
UPDATES = normal(3, N, D, seed=11)
WHEN = {"always": slice(None), "once": slice(1, 2)}


def followed(member, n, f, updates):
    """The aggregates of a rule over these updates, and its state after them."""
    rule = member.build(n, f)
    state, aggregates = rule.init(D), []
    for rows in updates:
        aggregate, state, _ = rule.apply(rows.astype(np.float32), state)
        aggregates.append(np.asarray(aggregate))
    return np.stack(aggregates), [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def with_bad(value, when="always"):
    updates = UPDATES.copy()
    updates[WHEN[when], BAD] = value
    return updates


def test_every_robust_rule_is_in_one_of_the_groups():
    assert {member.name for member in ROBUST} == LEFT_OUT | FAR | NO_DIRECTION


# with one row less each of them compiles anew: by day krum for all that choose by distances, and those that are cheap
@each(
    [member for member in ROBUST if member.name in LEFT_OUT],
    {"krum", "cge", "fltrust", "sign_majority"},
)
def test_a_row_of_nan_is_left_out(member):
    aggregates, state = followed(member, N, F, with_bad(np.nan))
    others, other_state = followed(member, N - 1, F - 1, np.delete(UPDATES, BAD, axis=1))
    np.testing.assert_allclose(aggregates, others, rtol=1e-5, atol=1e-6)
    for one, other in zip(state, other_state, strict=True):
        # what is remembered of each row
        mine = np.delete(one, BAD, axis=list(one.shape).index(N)) if one.shape != other.shape else one
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


# bulyan over it, which leaves rows of NaN out, and where a row far away pulls a little
OVER_A_MEDIAN = [m for m in ROBUST if m.name == "bulyan" and "geometric_median" in str(m.options)]


@each([member for member in ROBUST if member.name in FAR and member not in OVER_A_MEDIAN])
def test_a_row_of_nan_is_one_far_away(member):
    for when in WHEN:
        aggregates, state = followed(member, N, F, with_bad(np.nan, when))
        others, other_state = followed(member, N, F, with_bad(1e12, when))
        np.testing.assert_allclose(aggregates, others, rtol=1e-5, atol=1e-6)
        assert not state
        assert not other_state


@each([*OVER_A_MEDIAN, *(member for member in ROBUST if member.name in NO_DIRECTION)])
def test_a_row_without_direction_pulls_nowhere_and_leaves_states_finite(member):
    for when in WHEN:
        aggregates, state = followed(member, N, F, with_bad(np.nan, when))
        others, other_state = followed(member, N, F, with_bad(np.inf, when))
        np.testing.assert_array_equal(aggregates, others)
        assert np.isfinite(aggregates).all()
        for one, other in zip(state, other_state, strict=True):
            np.testing.assert_array_equal(one, other)
            assert np.isfinite(one).all()


@pytest.mark.parametrize("tau", by_day([0.5], (0.5, 2.0)))
def test_a_row_without_direction_is_for_clipping_the_point_that_is_clipped_around(tau):
    clipping = {m.name: m for m in ROBUST if m.name in ("centered_clipping", "norm_clipping")}
    of_tau = {name: member._replace(options={"tau": tau}) for name, member in clipping.items()}
    first = with_bad(np.nan)[:1]
    for member in of_tau.values():
        aggregates, state = followed(member, N, F, first)
        zero = first.copy()
        zero[:, BAD] = 0
        others, other_state = followed(member, N, F, zero)
        np.testing.assert_allclose(aggregates, others, rtol=1e-6)
        for one, other in zip(state, other_state, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
