"""Attacks that remember earlier updates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from examples import F, N, example, view_of

import attacks


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
    """Worker i's rows have a mean of its own; each update holds 7 of the 9 workers in another order, two liars."""
    rng = np.random.default_rng(8)
    own = 2 * rng.normal(size=(N, d))
    updates = []
    for _ in range(count):
        workers = rng.permutation(np.concatenate([[0, 2], rng.permutation(np.arange(3, N))[:5]]))
        rows = (own[workers] + 0.5 * rng.normal(size=(7, d)) + 3).astype(np.float32)
        updates.append((rows, workers < 3, workers))
    return updates


def copied(updates, sent):
    """Whose row all liars sent in each update."""
    whose = []
    for (rows, byzantine, workers), out in zip(updates, sent, strict=True):
        (place,) = (i for i in range(len(rows)) if not byzantine[i] and np.array_equal(out[byzantine][0], rows[i]))
        np.testing.assert_array_equal(out[byzantine], np.tile(rows[place], (byzantine.sum(), 1)))
        np.testing.assert_array_equal(out[~byzantine], rows[~byzantine])
        whose.append(int(workers[place]))
    return whose


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
