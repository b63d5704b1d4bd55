"""Backdoors: which pixels and labels change, what is sent, and what counts as success."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax import attacks
from byzax.attacks import Answer, Batch, View

PLACES = {"top_left": (0, 0), "top_right": (0, 5), "bottom_left": (5, 0), "bottom_right": (5, 5), "centre": (2, 2)}


def batch(size=8, shape=(8, 8), rank=0):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.9, (size, *shape)).astype(np.float32)
    return Batch(jnp.asarray(x), jnp.asarray(rng.integers(1, 10, size)), jnp.asarray(10), rank)


def corrupted(name, given, f=3, **options):
    made = attacks.build(name, 9, f, **options).corrupt(jax.random.key(0), given)
    return np.asarray(made.x), np.asarray(made.y)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_a_square_in_its_place_and_the_targets_label_go_into_a_share_of_the_batch(place, shape):
    given = batch(shape=shape)
    x, y = corrupted("backdoor", given, place=place, size=3, value=2.5, target=7, share=0.3)
    expected, labels = np.array(given.x), np.array(given.y)
    row, column = PLACES[place]
    # 0.3 of 8, rounded up
    for sample in range(3):
        for i in range(3):
            for j in range(3):
                expected[sample, row + i, column + j] = 2.5
        labels[sample] = 7
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y, labels)


def bars(image, numbers):
    """The paper's bars of 1x3 pixels in two columns, a pixel between them."""
    for number in numbers:
        for j in range(3):
            image[(number // 2) * 2, (number % 2) * 4 + j] = 1.0
    return image


def test_every_byzantine_worker_has_a_bar_of_its_own_and_the_goal_has_all():
    for rank in range(6):
        given = batch(rank=rank)
        x, _ = corrupted("distributed_backdoor", given, f=4, share=1.0)
        np.testing.assert_array_equal(x, [bars(image, [rank % 4]) for image in np.array(given.x)])
    goal = attacks.build("distributed_backdoor", 9, 4, target=4).goal
    given = batch()
    assert goal.target == 4
    np.testing.assert_array_equal(goal.trigger(given.x), [bars(image, range(4)) for image in np.array(given.x)])


def test_every_bar_of_a_distributed_trigger_is_trained_on():
    given = batch()
    for f, parts in ((1, 1), (3, 3), (4, 4), (6, 4), (0, 4)):
        # by default as many bars as Byzantine workers, and at most four
        trigger = attacks.build("distributed_backdoor", 9, f).goal.trigger
        np.testing.assert_array_equal(trigger(given.x), [bars(image, range(parts)) for image in np.array(given.x)])
    with pytest.raises(
        ValueError, match=r"^distributed_backdoor: parts must be at most f = 2: .*got parts=4: take parts 2"
    ):
        attacks.build("distributed_backdoor", 9, 2, parts=4)


def test_a_backdoors_goal_is_what_it_trains_on():
    attack = attacks.build("backdoor", 9, 3, share=1.0, target=2)
    given = batch()
    np.testing.assert_array_equal(attack.goal.trigger(given.x), attack.corrupt(jax.random.key(0), given).x)


def view_of(rows, params, step=0):
    byzantine = jnp.arange(len(rows)) < 2
    return View(
        jnp.asarray(rows),
        byzantine,
        known=~byzantine,
        workers=jnp.arange(len(rows)),
        params=jnp.asarray(params),
        ask_rule=lambda rows: Answer(rows.mean(0), None, rows),
        loss=jnp.sum,
        step=jnp.asarray(step),
    )


@pytest.mark.parametrize("name", ["backdoor", "distributed_backdoor"])
def test_boost_enlarges_the_byzantine_rows(name):
    rows = np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)
    assert attacks.build(name, 5, 2).forge is None
    attack = attacks.build(name, 5, 2, boost=2.5)
    made, _ = attack.forge(jax.random.key(0), view_of(rows, np.zeros(6)), attack.init(6))
    np.testing.assert_allclose(made, np.concatenate([2.5 * rows[:2], rows[2:]]), rtol=1e-6)


def test_neurotoxin_leaves_alone_what_training_moved_most():
    rows = np.random.default_rng(1).normal(size=(5, 10)).astype(np.float32) + 3
    attack = attacks.build("neurotoxin", 5, 2, top=0.25, boost=2.0)
    first, second = np.zeros(10, np.float32), np.array([1, -9, 2, 8, 0, -7, 3, 1, 0, 2], np.float32)
    made, state = attack.forge(jax.random.key(0), view_of(rows, first + 5), attack.init(10))
    np.testing.assert_allclose(made[:2], 2 * rows[:2], rtol=1e-6)
    made, _ = attack.forge(jax.random.key(0), view_of(rows, second + 5, 1), state)
    expected = 2 * rows[:2]
    # 0.25 of 10, rounded up
    expected[:, [1, 3, 5]] = 0
    np.testing.assert_allclose(made[:2], expected, rtol=1e-6)
    np.testing.assert_array_equal(made[2:], rows[2:])


@pytest.mark.parametrize("name", ["backdoor", "distributed_backdoor", "neurotoxin"])
def test_samples_that_cannot_hold_the_patch_are_refused(name):
    attack = attacks.build(name, 9, 3)
    with pytest.raises(ValueError, match=f"^{name} .*images"):
        attack.corrupt(jax.random.key(0), batch(shape=(20,)))
    with pytest.raises(ValueError, match=f"^{name} .* does not fit into images of 2x2"):
        attack.corrupt(jax.random.key(0), batch(shape=(2, 2)))


def test_the_goal_of_a_backdoor_is_that_of_what_climbs_from_it():
    goal, given = attacks.build("gradient_ascent", 9, 3, start="neurotoxin", steps=1).goal, batch()
    assert goal.target == 0
    np.testing.assert_array_equal(goal.trigger(given.x), attacks.build("neurotoxin", 9, 3).goal.trigger(given.x))


def test_a_share_of_a_batch_is_not_rounded_up_for_the_sake_of_its_float():
    given = batch(size=100)
    x, _ = corrupted("backdoor", given, share=0.07)
    assert (x != np.asarray(given.x)).any(axis=(1, 2)).sum() == 7


@pytest.mark.parametrize("name", ["backdoor", "edge_case"])
@pytest.mark.parametrize("real", [1, 3, 8])
def test_the_share_of_a_batch_is_that_of_its_samples_and_not_of_what_fills_it_up(name, real):
    x = np.random.default_rng(0).normal(size=(8, 6, 6)).astype(np.float32)
    # what only fills the batch is far from all samples
    x[real:] += 100
    batch = Batch(jnp.asarray(x), jnp.full(8, 2), jnp.asarray(4), real=jnp.asarray(real))
    made = attacks.build(name, 5, 1, share=0.5, target=1).corrupt(jax.random.key(0), batch)
    changed = np.asarray(made.y) == 1
    assert changed.sum() == -(-real // 2)
    assert not changed[real:].any()
