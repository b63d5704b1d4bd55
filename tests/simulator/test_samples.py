"""Samples between data set and model: one scale for all, changes of images in training alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.simulator.augmentations import build as augmentation
from byzax.simulator.core import build as build_core
from byzax.simulator.data.base import dataset
from byzax.simulator.keys import Purpose
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.normalising import apply_scaling, fit_scaling
from byzax.simulator.validation import validate
from byzax.simulator.world import load, read_samples, share_out, split_unit, world
from tests.simulator.conftest import at, loop, run, same, small
from tests.simulator.test_core import batch_of, softmax_gradient

IMAGES = np.random.default_rng(0).gamma(2, 3, (9001, 3, 4, 2)).astype(np.float32) + 50
IMAGES[..., 1] *= 4
# constant at one place
IMAGES[:, 0, 0, 0] = 7
TRAIN = np.sort(np.random.default_rng(1).permutation(9001)[:8500])
CHANGED = {"name": "digits", "batch_size": 8, "normalise": "per_feature", "augment": [{"name": "shift", "pixels": 1}]}


def key_of(purpose, *indices):
    """By the rule that keys.py states."""
    key = jax.random.key(0)
    for index in (int(purpose), *indices):
        key = jax.random.fold_in(key, index)
    return key


def by_hand(here, x):
    centre, factor = (np.asarray(each, np.float64) for each in here.scaling)
    return (np.asarray(x, np.float64) - centre) * factor


def holding(x):
    return dataset(x, np.zeros(len(x), int), 2)


def on_one_scale(how, x=IMAGES, train=TRAIN):
    return np.asarray(apply_scaling(fit_scaling(how, holding(x), train), jnp.asarray(x)), np.float64)


@pytest.mark.parametrize(
    ("how", "axes"), [("standard", (0, 1, 2, 3)), ("per_channel", (0, 1, 2)), ("per_feature", (0,))]
)
def test_training_samples_have_mean_0_and_deviation_1_and_others_the_same_scale(how, axes):
    train = IMAGES[TRAIN].astype(np.float64)
    deviation = train.std(axis=axes, keepdims=True)
    expected = (IMAGES - train.mean(axis=axes, keepdims=True)) / np.where(deviation > 1e-9, deviation, 1)
    np.testing.assert_allclose(on_one_scale(how), expected, atol=1e-3)
    if how == "per_feature":
        np.testing.assert_allclose(on_one_scale(how)[:, 0, 0, 0], 0, atol=1e-5)


def test_unit_brings_training_samples_into_0_to_1():
    x = IMAGES.copy()
    # the largest of all is none of the training
    x[np.setdiff1d(np.arange(9001), TRAIN)[0]] = 1e6
    made = on_one_scale("unit", x)
    assert made[TRAIN].min() == 0
    assert made[TRAIN].max() == pytest.approx(1, abs=1e-6)
    assert made.max() > 100


def test_without_a_scale_samples_stay_bit_for_bit_as_they_are():
    assert fit_scaling("none", holding(IMAGES), TRAIN) is None
    x = jnp.asarray(IMAGES)
    assert apply_scaling(None, x) is x
    assert world(small().run).scaling is None


@pytest.mark.parametrize(
    ("how", "x", "message"),
    [
        ("standard", np.ones((5, 80), np.int32), "standard is for numbers, and samples of this data are characters"),
        ("per_channel", np.ones((5, 8, 8), np.float32), r"per_channel is for images \[height, width, colours\]"),
    ],
)
def test_what_has_no_scale_is_refused(how, x, message):
    with pytest.raises(ValueError, match=message):
        fit_scaling(how, holding(x), np.arange(3))


def test_each_repeat_takes_the_scale_of_its_own_training_samples():
    scenario = small(data={"name": "digits", "normalise": "per_feature"})
    x = load(scenario.data).x.astype(np.float64)
    for seed in (0, 1):
        found = world(at(scenario, seed)).scaling
        assert found is not None
        train = share_out(scenario.data, 7, seed)[0].train
        np.testing.assert_allclose(found.centre, x[train].mean(axis=0), rtol=1e-5, atol=1e-7)


def test_a_row_is_the_gradient_on_changed_images_brought_to_one_scale():
    scenario = small(data=CHANGED)
    here, core = world(scenario.run), build_core(scenario.run, 7)
    params = core.start(here).params
    for worker, job in ((0, 0), (3, 2)):
        x, y = batch_of(here, worker, job, 8)
        # the 0 is the place of the augmentation among all
        key = key_of(Purpose.AUGMENT, worker, job, 0)
        images = augmentation("shift", pixels=1)(key, jnp.asarray(x.reshape(8, 8, 8), jnp.float32))
        scaled = by_hand(here, images)
        expected = softmax_gradient(np.asarray(params, np.float64), scaled.reshape(8, -1), y)
        np.testing.assert_allclose(core.work(here, params, worker, job, job), expected, rtol=1e-4, atol=1e-5)


def test_evaluation_sees_every_sample_on_that_scale_and_none_changed():
    scenario = small(data=CHANGED)
    here, core = world(scenario.run), build_core(scenario.run, 7)
    params = core.start(here).params
    plain = build_core(small(data=CHANGED | {"augment": []}).run, 7)
    found = core.evaluate(here, params)
    np.testing.assert_array_equal(found, plain.evaluate(here, params))
    x = by_hand(here, np.asarray(here.x)[np.asarray(here.test)])
    values = np.asarray(params, np.float64)
    logits = x.reshape(len(x), -1) @ values[10:].reshape(-1, 10) + values[:10]
    y = np.asarray(here.y)[here.test]
    losses = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1) - logits[np.arange(len(y)), y]
    assert float(found.test_loss) == pytest.approx(losses.mean(), rel=1e-4)


def test_local_steps_change_their_images_each_anew():
    here = world(small(data=CHANGED).run)
    params = build_core(small(data=CHANGED).run, 7).start(here).params
    x, y = np.asarray(here.x), np.asarray(here.y)
    at = np.asarray(params, np.float64)
    for step in range(2):
        drawn, change = key_of(Purpose.WORK, 0, 0, step), key_of(Purpose.AUGMENT, 0, 0, step, 0)
        places = np.asarray(jax.random.randint(drawn, (8,), 0, int(here.sizes[0])))
        position = np.asarray(here.shards)[0][places]
        images = augmentation("shift", pixels=1)(change, jnp.asarray(x[position]))
        scaled = by_hand(here, images)
        at -= 0.1 * softmax_gradient(at, scaled.reshape(8, -1), y[position])
    core = build_core(small(data=CHANGED, local={"steps": 2, "learning_rate": 0.1, "send": "model"}).run, 7)
    np.testing.assert_allclose(core.work(here, params, 0, 0, 0), at, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_vectorised_seeds_follow_the_loop_with_changed_images_of_a_scale_of_their_own():
    changes = {"data": CHANGED, "repeats": 2, "attack": "none"}
    fast = {(each.seed, each.step): each.params for each in run(small(**changes, executor="vectorised"))}
    assert len(fast) == 2 * 3
    for each in loop(**changes):
        np.testing.assert_allclose(fast[each.seed, each.step], each.params, rtol=1e-4, atol=1e-5)


def test_a_run_is_the_same_twice():
    assert same(loop(data=CHANGED), run(small(data=CHANGED)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "gaussian_mixture", "augment": ["flip"]}, r"data.augment\[0\]: flip is for images"),
        (
            {"name": "digits", "augment": ["flip", {"name": "shift", "pixels": 0}]},
            r"data.augment\[1\].pixels: must be at least 1, got 0",
        ),
        ({"name": "digits", "normalise": "per_channel"}, "data.normalise: per_channel is for images"),
    ],
)
def test_what_data_cannot_have_is_refused_before_a_start_with_its_key(data, message):
    with pytest.raises(ScenarioError, match=message):
        validate(small(data=data).task)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "digits", "augment": ["flop"]}, "data.augment[0]: unknown augmentation 'flop'; did you mean 'flip'?"),
        ({"name": "digits", "augment": [{"name": "flip", "axes": 1}]}, "data.augment[0].axes: unknown key"),
        ({"name": "digits", "augment": "flip"}, "data.augment: must be a list"),
        ({"name": "digits", "normalise": "mean"}, "data.normalise: must be 'none', 'unit'"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_key(data, message):
    with pytest.raises(ScenarioError) as caught:
        small(data=data)
    assert message in str(caught.value)


BYTES = np.random.default_rng(2).integers(0, 256, (300, 6, 6)).astype(np.uint8)


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 16, 100, 127, 128, 254, 255, 256, 1000])
def test_compiled_code_divides_bytes_as_numpy_does(divisor):
    every = np.arange(256, dtype=np.uint8)[:, None]
    held = dataset(every, np.zeros(256, int), 2, divisor=divisor)
    assert held.x.dtype == np.uint8
    expected = every.astype(np.float32) / np.float32(divisor)
    np.testing.assert_array_equal(held.values(), expected)
    here = world(small().run)._replace(x=jnp.asarray(every), unit=split_unit(divisor))
    found = jax.jit(lambda here, positions: 2 * read_samples(here, positions))(here, jnp.arange(256))
    np.testing.assert_array_equal(found, 2 * expected)


@pytest.mark.parametrize("attack", ["feature_noise", {"name": "backdoor", "share": 0.5}, "little"], ids=str)
@pytest.mark.parametrize("normalise", ["unit", "per_feature"])
def test_a_run_on_bytes_is_that_on_the_numbers_that_they_stand_for(tmp_path, normalise, attack):
    y, results = np.arange(300) % 3, []
    for name, x in (("bytes", BYTES), ("floats", BYTES.astype(np.float32))):
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
        data = {"name": "arrays", "path": str(tmp_path / f"{name}.npz"), "normalise": normalise}
        scenario = small(data=data | {"augment": ["shift"]}, attack=attack)
        assert load(scenario.data).x.dtype == x.dtype
        results.append(run(scenario))
    assert same(*results)


def test_a_divisor_is_for_bytes():
    for x, divisor in ((BYTES.astype(np.float32), 255), (BYTES.astype(np.int32), 255), (BYTES, 0)):
        with pytest.raises(ValueError, match=f"divisor {divisor}: must be at least 1, and is for samples of uint8"):
            dataset(x, np.zeros(300, int), 2, divisor=divisor)
