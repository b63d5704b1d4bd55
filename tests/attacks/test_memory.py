"""Attacks that remember earlier updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import F, N, example, unweighted, view_of

from byzax import attacks


def played(name, updates, f=F, n=N, **options):
    """The rows that an attack makes of one update after the other: `(rows, byzantine, workers)` or without workers."""
    attack = attacks.build(name, n, f, **options)
    assert attack.forge is not None
    state, out = attack.init(updates[0][0].shape[1]), []
    for step, (rows, byzantine, *workers) in enumerate(updates):
        changes = {"workers": jnp.asarray(workers[0])} if workers else {}
        before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        forged, state = attack.forge(
            jax.random.fold_in(jax.random.key(5), step), view_of(rows, byzantine, **changes), state
        )
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == before
        out.append(np.asarray(forged))
    return out


def shuffled_updates(count, d=12):
    """Worker i's rows have a mean of its own; each update holds 7 of the 9 workers in another order, two Byzantine."""
    rng = np.random.default_rng(8)
    own = 2 * rng.normal(size=(N, d))
    updates = []
    for _ in range(count):
        workers = rng.permutation(np.concatenate([[0, 2], rng.permutation(np.arange(3, N))[:5]]))
        rows = (own[workers] + 0.5 * rng.normal(size=(7, d)) + 3).astype(np.float32)
        updates.append((rows, workers < 3, workers))
    return updates


def copied(updates, sent):
    """The number of the worker whose row all Byzantine workers sent in each update."""
    whose = []
    for (rows, byzantine, workers), out in zip(updates, sent, strict=True):
        (place,) = (i for i in range(len(rows)) if not byzantine[i] and np.array_equal(out[byzantine][0], rows[i]))
        np.testing.assert_array_equal(out[byzantine], np.tile(rows[place], (byzantine.sum(), 1)))
        np.testing.assert_array_equal(out[~byzantine], rows[~byzantine])
        whose.append(int(workers[place]))
    return whose


# -- stale --------------------------------


@pytest.mark.parametrize("age", [1, 3])
def test_stale_models_are_the_honest_mean_models_of_updates_before(age):
    attack, rng, d = attacks.build("stale", N, F, age=age), np.random.default_rng(4), 6
    assert attack.forge is not None
    state, means = attack.init(d), []
    for step in range(7):
        rows, byzantine = example([0, 4], d=d)
        rows, params = (rows + rng.normal(size=rows.shape)).astype(np.float32), rng.normal(size=d).astype(np.float32)
        view = view_of(rows, byzantine, params=params)
        forged, state = attack.forge(jax.random.key(step), view, state)
        sent = params - np.asarray(forged)[byzantine]
        expected = means[step - age] if step >= age else params
        np.testing.assert_allclose(sent, np.tile(expected, (2, 1)), atol=1e-5)
        np.testing.assert_array_equal(np.asarray(forged)[~byzantine], rows[~byzantine])
        means.append(params - rows[~byzantine].astype(np.float64).mean(axis=0))


# -- mimic --------------------------------


def mimicked(updates, warm_up):
    """The authors' procedure in float64, from the same first vector; whose row is copied in each update."""
    mean = direction = target = None
    whose = []
    for t, (rows, byzantine, workers) in enumerate(updates):
        honest, numbers = rows[~byzantine].astype(np.float64), workers[~byzantine]
        if t == 0:
            mean = honest.mean(axis=0)
            first = np.asarray(
                jax.random.normal(jax.random.fold_in(jax.random.key(5), 0), (rows.shape[1],)), np.float64
            )
            total = sum(((g - mean) @ first) * (g - mean) for g in honest)
            direction = total / np.linalg.norm(total)
        elif t < warm_up:
            mean = t / (1 + t) * mean + honest.mean(axis=0) / (1 + t)
            total = sum(((g - mean) @ direction) * (g - mean) for g in honest)
            direction = t / (1 + t) * direction + total / np.linalg.norm(total) / (1 + t)
            direction = direction / np.linalg.norm(direction)
        farthest = numbers[int(np.argmax(honest @ direction))]
        if t < warm_up:
            target = farthest
        whose.append(int(target if target in numbers else farthest))
    return whose


@pytest.mark.parametrize("warm_up", [1, 3, 6])
def test_mimic_copies_whom_the_authors_procedure_chooses_wherever_that_worker_stands(warm_up):
    updates = shuffled_updates(12)
    expected = mimicked(updates, warm_up)
    assert copied(updates, played("mimic", updates, warm_up=warm_up)) == expected
    if warm_up == 1:
        # a worker that has no row in some updates, and a choice that is not made anew
        assert len(set(expected)) > 1
        assert expected != mimicked(updates, 6)


def test_the_direction_of_mimic_becomes_that_in_which_honest_rows_differ_most():
    rng, d = np.random.default_rng(0), 30
    axis = rng.normal(size=d) / np.sqrt(d)
    updates = []
    for _ in range(40):
        rows = (rng.normal(size=(N, 1)) * 3 * axis + 0.3 * rng.normal(size=(N, d))).astype(np.float32)
        updates.append((rows, np.arange(N) < F))
    attack = attacks.build("mimic", N, F, warm_up=40)
    state = attack.init(d)
    for step, (rows, byzantine) in enumerate(updates):
        _, state = attack.forge(jax.random.key(step), view_of(rows, byzantine), state)
    assert abs(np.asarray(state.direction) @ axis) / np.linalg.norm(axis) > 0.98
    assert int(state.updates) == 40


def test_mimic_copies_the_worker_it_is_told_to():
    updates = shuffled_updates(12)
    whose = copied(updates, played("mimic", updates, target=5))
    there = [5 in workers for _, _, workers in updates]
    assert not all(there)
    assert [w == 5 for w in whose] == there


def test_mimic_follows_the_protocol_where_no_honest_row_is_known():
    rows, byzantine = example([0, 1, 2])
    attack = attacks.build("mimic", N, F)
    view = view_of(rows, byzantine, known=jnp.zeros(N, bool))
    got, state = attack.forge(jax.random.key(0), view, attack.init(rows.shape[1]))
    np.testing.assert_array_equal(got, rows)
    assert int(state.updates) == 0


# -- rop --------------------------------


def test_rop_stands_at_the_last_aggregate_and_leaves_its_direction():
    """The rule is the mean here, so that the last aggregate is known in float64."""
    rng = np.random.default_rng(3)
    byzantine = np.arange(N) < F
    updates = [((rng.normal(size=(N, 8)) + 2 * t).astype(np.float32), byzantine) for t in range(4)]
    sent = played("rop", updates, z=2.0, location=0.75, angle=60.0)
    last = None
    for (rows, _), out in zip(updates, sent, strict=True):
        mean = rows[F:].astype(np.float64).mean(axis=0)
        reference = mean if last is None else 0.9 * last + 0.1 * mean
        reference = reference / np.linalg.norm(reference)
        aside = np.ones(8) - reference.sum() * reference
        turned = np.sin(np.pi / 3) * aside / np.linalg.norm(aside) + np.cos(np.pi / 3) * reference
        row = (0 if last is None else 0.75 * last) + 0.25 * mean + 2 * turned
        np.testing.assert_allclose(out[:F], np.tile(row, (F, 1)), rtol=1e-4, atol=1e-4)
        last = np.concatenate([np.tile(row, (F, 1)), rows[F:]]).mean(axis=0)


def test_rop_forgets_no_aggregate_for_one_that_is_no_number():
    rows, byzantine = example([0, 1, 2])
    attack = attacks.build("rop", N, F)
    state = attack.init(rows.shape[1])
    broken = view_of(rows, byzantine, ask_rule=unweighted(lambda attempt: attempt[0] * jnp.nan))
    _, after = attack.forge(jax.random.key(0), broken, state)
    assert not after.any
    np.testing.assert_array_equal(after.aggregate, state.aggregate)


# -- stale_replay --------------------------------


@pytest.mark.parametrize("age", [1, 3])
def test_what_is_replayed_is_so_many_updates_old(age):
    updates = shuffled_updates(9)
    sent = played("stale_replay", updates, age=age)
    means = [rows[~byzantine].astype(np.float64).mean(axis=0) for rows, byzantine, _ in updates]
    for t, ((_, byzantine, _), out) in enumerate(zip(updates, sent, strict=True)):
        expected = means[t - age] if t >= age else np.zeros(12)
        np.testing.assert_allclose(out[byzantine], np.tile(expected, (byzantine.sum(), 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("age", [1, 2])
def test_each_byzantine_worker_replays_its_own_rows_wherever_it_stands_and_however_often_it_comes(age):
    rng, count = np.random.default_rng(1), 3
    updates, computed = [], {w: [] for w in range(count)}
    for _ in range(12):
        workers = rng.permutation(N)[:6]
        updates.append((rng.normal(size=(6, 5)).astype(np.float32), workers < count, workers))
    for (rows, byzantine, workers), out in zip(
        updates, played("stale_replay", updates, what="own", age=age), strict=True
    ):
        for row, attacks_now, worker, got in zip(rows, byzantine, workers, out, strict=True):
            if attacks_now:
                past = computed[worker]
                np.testing.assert_array_equal(got, past[-age] if len(past) >= age else np.zeros(5, np.float32))
                past.append(row)
    assert all(len(past) > age for past in computed.values())


def test_forged_rows_that_the_adversary_is_shown_again_are_not_taken_for_computed_rows():
    """One row at a time: the rows of the other Byzantine workers are those they sent last."""
    attack = attacks.build("stale_replay", 4, 2, what="own", age=1)
    byzantine = np.array([True, True, False, False])
    rng, state, table = np.random.default_rng(2), attack.init(3), np.zeros((4, 3), np.float32)
    computed = {0: [np.zeros(3, np.float32)], 1: [np.zeros(3, np.float32)]}
    for worker in (0, 1, 1, 0, 1, 0, 0):
        table[worker] = row = rng.normal(size=3).astype(np.float32)
        out, state = attack.forge(jax.random.key(0), view_of(table, byzantine, new=np.arange(4) == worker), state)
        np.testing.assert_array_equal(out[worker], computed[worker][-1])
        computed[worker].append(row)
        table[worker] = out[worker]


def test_a_place_without_a_worker_is_nobodys_past():
    attack = attacks.build("stale_replay", 4, 2, what="own", age=1)
    rows, workers = np.ones((3, 2), np.float32), jnp.array([1, -1, 3])
    view = view_of(rows, np.array([True, True, False]), workers=workers)
    _, state = attack.forge(jax.random.key(0), view, attack.init(2))
    assert np.asarray(state.counts).tolist() == [0, 1, 0, 0]
    assert (np.asarray(state.past)[[0, 2, 3]] == 0).all()
