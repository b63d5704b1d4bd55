"""Secure aggregation as its page describes it: sums to the bit, groups that lose members, and what the rule sees."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import byzax
from byzax.simulator.executors.base import plan
from byzax.simulator.executors.ledger import traffic
from byzax.simulator.masks import FixedPoint, decode, encode, fixed_point, mask_rows, pairs_of, sum_groups
from byzax.simulator.mistakes import ScenarioError
from tests.simulator.conftest import small

KEY = jax.random.key(7)
N, D = 7, 5
SMALL: dict[str, Any] = {
    "data": {"name": "gaussian_mixture", "samples": 300, "shape": [4], "classes": 3, "batch_size": 8},
    "model": "softmax",
    "optimizer": {"name": "sgd", "learning_rate": 0.5},
    "rule": "average",
    "attack": "none",
    "workers": {"total": N, "byzantine": 0},
    "steps": 3,
}
MASKS: dict[str, Any] = {"groups": 3, "range": 8.0}


def whole_numbers(rows, point):
    """Rows in fixed point, in Python's whole numbers."""
    return [[max(-point.limit, min(point.limit, round(float(x) / point.step))) for x in row] for row in rows]


@pytest.mark.parametrize("bits", [8, 13, 32])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("missing", [(), (2,), (0, 3, 6)])
def test_sums_of_masked_rows_are_those_of_fixed_point_rows_to_the_bit(bits, groups, missing):
    point = fixed_point(bits, 2.0, -(-N // groups))
    rows = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32) * 3
    pairs = pairs_of(N, groups)
    there = np.array([i not in missing for i in range(N)])
    encoded = encode(jnp.asarray(rows), point)
    masked = mask_rows(encoded, KEY, pairs, bits)
    sums = np.asarray(sum_groups(masked, jnp.asarray(there), KEY, pairs, groups, bits))
    whole = whole_numbers(rows, point)
    for group in range(groups):
        members = [i for i in range(group, N, groups) if there[i]]
        expected = [sum(whole[i][k] for i in members) for k in range(D)]
        # nothing left the range on the way
        assert all(abs(each) < 2 ** (bits - 1) for each in expected)
        assert sums[group].tolist() == [each % 2**bits for each in expected]
        assert np.asarray(decode(jnp.asarray(sums[group]), point)).tolist() == [
            float(np.float32(each) * np.float32(point.step)) for each in expected
        ]


def test_dropped_members_whose_masks_are_not_recovered_leave_noise():
    point, pairs = fixed_point(32, 1.0, N), pairs_of(N, 1)
    encoded = encode(jnp.ones((N, D)), point)
    masked = mask_rows(encoded, KEY, pairs, 32)
    there = jnp.arange(N) != 3
    # as if nobody had dropped out
    forgotten = sum_groups(masked.at[3].set(0), jnp.ones(N, bool), KEY, pairs, 1, 32)
    recovered = sum_groups(masked, there, KEY, pairs, 1, 32)
    np.testing.assert_allclose(decode(recovered, point), N - 1, rtol=1e-6)
    assert np.abs(decode(forgotten, point) - (N - 1)).max() > 0.5


def test_one_masked_row_says_nothing_and_every_round_has_masks_of_its_own():
    point, pairs = fixed_point(32, 1.0, 3), pairs_of(6, 2)
    zeros, ones = (encode(jnp.full((6, 4000), x), point) for x in (0.0, 1.0))
    masked = [np.asarray(mask_rows(each, KEY, pairs, 32)) for each in (zeros, ones)]
    for each in masked:
        # equally many of all sizes, in each row
        counts = np.stack([np.bincount(row >> 28, minlength=16) for row in each])
        assert np.abs(counts / 4000 - 1 / 16).max() < 0.03
    assert (masked[0] != np.asarray(mask_rows(zeros, jax.random.key(8), pairs, 32))).mean() > 0.99
    # a mask that all workers share would be seen in the differences of rows
    assert len({row.tobytes() for row in masked[0]}) == 6
    assert np.bincount((masked[0][0] - masked[0][1]) >> 28, minlength=16).max() < 4000 / 8


@given(
    bits=st.integers(8, 32),
    members=st.integers(1, 60),
    largest=st.floats(1e-6, 1e6),
    value=st.floats(-1e7, 1e7, width=32) | st.sampled_from([np.nan, np.inf, -np.inf]),
)
@settings(max_examples=60, deadline=None)
def test_a_number_is_rounded_to_a_step_and_cut_and_sums_stay_in_range(bits, members, largest, value):
    point = fixed_point(bits, largest, members)
    assert members * point.limit < 2 ** (bits - 1)
    # nor is the step larger than it must be: a power of two, of which half would leave the range
    assert largest / (point.step / 2) > (2 ** (bits - 1) - 1) // members
    got = float(decode(encode(jnp.float32([value]), point), point)[0])
    wanted = 0.0 if np.isnan(value) else float(np.clip(value, -point.limit * point.step, point.limit * point.step))
    assert abs(got - wanted) <= point.step / 2 * (1 + 1e-6) + 1e-6 * abs(wanted)
    assert abs(point.limit * point.step - largest) <= point.step / 2 * (1 + 1e-9)


def test_too_few_bits_for_a_group_are_refused():
    with pytest.raises(ValueError, match="8 bits hold no sum of 128 rows"):
        fixed_point(8, 1.0, 128)
    assert fixed_point(8, 1.0, 127) == FixedPoint(8, 1.0, 1)


def simulated(**changes):
    return [*byzax.simulate(**SMALL | changes)]


def test_the_rule_sees_means_of_groups():
    workers = {"total": N, "byzantine": 0, "declared": 1}
    update = simulated(masks=MASKS, rule="median", workers=workers)[0]
    means = np.stack([update.rows[group::3].mean(axis=0) for group in range(3)])
    np.testing.assert_allclose(update.aggregate, np.median(means, axis=0), rtol=1e-5, atol=1e-7)
    # median of means of groups, which is not the median of rows
    assert np.abs(np.median(update.rows, axis=0) - update.aggregate).max() > 1e-3


def test_one_group_is_the_mean_of_all_rows():
    masked, plain = (simulated(**changes)[-1].params for changes in ({"masks": MASKS | {"groups": 1}}, {}))
    np.testing.assert_allclose(masked, plain, rtol=1e-5, atol=1e-6)


def test_with_few_bits_rows_are_rounded():
    point = fixed_point(8, 1.0, N)
    update = simulated(masks={"groups": 1, "range": 1.0, "bits": 8})[0]
    expected = np.array(whole_numbers(update.rows, point)).sum(axis=0) * point.step / N
    np.testing.assert_allclose(update.aggregate, expected, rtol=1e-6, atol=1e-7)
    assert np.abs(update.rows.mean(axis=0) - update.aggregate).max() > 1e-3


def test_a_byzantine_row_moves_the_mean_of_its_group_by_the_range_at_most():
    workers = {"total": N, "byzantine": 1}
    narrow = MASKS | {"range": 1.0}
    quiet = simulated(masks=narrow, workers=workers)[0]
    for attack in ({"name": "sign_flip", "scale": 1e30}, "non_finite"):
        update = simulated(masks=narrow, workers=workers, attack=attack)[0]
        # of three groups, of whose first it is one of three members
        assert np.abs(update.aggregate - quiet.aggregate).max() <= 2 * 1.0 / 3 / 3
        assert np.isfinite(update.aggregate).all()


def test_weights_of_rows_are_shares_of_the_weights_of_their_groups():
    workers = {"total": N, "byzantine": 0, "declared": 0}
    update = simulated(masks=MASKS, rule="krum", workers=workers, pre=[])[0]
    members = np.flatnonzero(update.weights)
    assert len({int(i) % 3 for i in members}) == 1
    np.testing.assert_allclose(update.weights[members], 1 / len(members), rtol=1e-6)


QUORUM: dict[str, Any] = {
    "latency": {"name": "lognormal", "sigma": 1.0},
    "schedule": {"name": "synchronous", "quorum": 5},
    "steps": 8,
}


@pytest.mark.parametrize("dropped", ["recover", "lost"])
def test_members_whose_rows_do_not_arrive_are_left_out_or_take_their_group_with_them(dropped):
    updates = simulated(**QUORUM, masks=MASKS | {"dropped": dropped})
    seen = set()
    for update in updates:
        groups = []
        for group in range(3):
            members = [place for place, worker in enumerate(update.workers) if worker % 3 == group]
            if members and (dropped == "recover" or len(members) == len(range(group, N, 3))):
                groups.append(update.rows[members].mean(axis=0))
        np.testing.assert_allclose(update.aggregate, np.mean(groups, axis=0), rtol=1e-4, atol=1e-6)
        seen.add(len(groups))
        # rows of a group that is lost have no weight
        assert abs(update.weights.sum() - 1) < 1e-5
    assert seen == ({3} if dropped == "recover" else {1, 2})


def test_the_timeline_says_how_many_groups_the_rule_sees():
    timeline = plan(small(**SMALL | QUORUM, masks=MASKS | {"dropped": "lost"}).run)
    for update in range(timeline.steps):
        heard = set(timeline.rows.workers[timeline.places_of(update)].tolist())
        assert timeline.seen[update] == sum(set(range(group, N, 3)) <= heard for group in range(3))
    assert plan(small(**SMALL, masks=MASKS).run).seen.tolist() == [3, 3, 3]


def test_a_masked_row_has_its_bits_for_each_parameter_in_the_ledger():
    run = small(**SMALL, masks=MASKS | {"bits": 12}).run
    sent = traffic(run, plan(run))
    assert sent.bits_up[-1] == 3 * N * 15 * 12
    assert sent.bits_down[-1] == 3 * N * 15 * 32


@pytest.mark.parametrize(
    "changes",
    [{"attack": "little"}, {"attack": {"name": "optimised", "attack": "empire", "evaluations": 4}}],
)
def test_attackers_inside_groups_are_asked_about_the_means_that_the_rule_sees(changes):
    updates = simulated(**changes, masks=MASKS, rule="median", workers={"total": N, "byzantine": 1})
    for update in updates:
        means = np.stack([update.forged[group::3].mean(axis=0) for group in range(3)])
        np.testing.assert_allclose(update.aggregate, np.median(means, axis=0), rtol=1e-4, atol=1e-6)
        assert np.abs(update.forged[0] - update.forged[1]).max() > 1e-6


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"masks": MASKS | {"groups": 4}}, "masks.groups: in 4 groups of 7 workers .* take 3 at most"),
        (
            {"masks": MASKS | {"groups": 1, "bits": 8}, "workers": {"total": 300}},
            "masks: 8 bits hold no sum",
        ),
        ({"masks": MASKS, "schedule": "asynchronous"}, "masks: .* all workers begin together"),
        ({"masks": MASKS, "schedule": {"name": "sampled", "participants": 5}}, "masks: .* all workers begin together"),
        ({"masks": MASKS, "topology": "gossip"}, "masks: .* topology parameter_server"),
        ({"masks": MASKS, "wire": {"up": ["qsgd"]}}, "wire.up: rows under masks .* leave wire.up out"),
        ({"masks": MASKS, "weights": "samples"}, "masks: .* weights equal"),
        (
            {"masks": MASKS, "privacy": {"level": "server", "clip": 1.0, "noise": 1.0}},
            "masks: .* no privacy of level server",
        ),
        (
            {"masks": MASKS, "rule": "krum", "workers": {"total": N, "byzantine": 1}},
            r"krum needs n >= 2f \+ 3.* means of 3 groups .*masks.groups.*: take more groups",
        ),
        (
            {**QUORUM, "masks": MASKS | {"dropped": "lost"}, "rule": "median", "workers": {"total": N, "byzantine": 1}},
            "median needs .* of which 2 are lost in some update",
        ),
    ],
)
def test_what_goes_with_no_masks_is_refused_in_one_line_with_its_key(changes, said):
    with pytest.raises(ScenarioError, match=said):
        byzax.run(**SMALL | changes, name="refused")


@pytest.mark.parametrize(("largest", "members"), [(3.999999996, 2), (2.666666664, 3), (4.0, 2)])
def test_a_group_of_numbers_beyond_the_range_keeps_its_sign(largest, members):
    point = fixed_point(32, largest, members)
    total = encode(jnp.full((members, 1), 1e9), point).sum(0, dtype=jnp.uint32)
    np.testing.assert_allclose(decode(total, point) / members, largest, rtol=1e-6)


@pytest.mark.parametrize("largest", [1e300, 3.5e38, 1e-40])
def test_a_range_without_a_step_is_refused(largest):
    with pytest.raises(ValueError, match="no float32"):
        fixed_point(32, largest, 3)
