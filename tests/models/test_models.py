"""What every model promises: one flat vector, the stated parameters, right gradients, and that it learns."""

import inspect
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax
from jax.test_util import check_grads

import models
from models._convolution import convolution, pool
from models.base import from_module

FOLDER = Path(inspect.getfile(models)).parent
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem[0] != "_" and file.stem != "base")
IMAGE = (28, 28)


def batch_of(shape, classes, size=6, seed=0):
    x_key, y_key = jax.random.split(jax.random.key(seed))
    return jax.random.uniform(x_key, (size, *shape)), jax.random.randint(y_key, (size,), 0, classes)


# 784*10+10; 784*100+100 + 100*10+10; (64+1)*5 + (5+1)*4 + (4+1)*3;
# (25*1+1)*20 + (25*20+1)*50 + (4*4*50+1)*500 + (500+1)*10 = 520 + 25,050 + 400,500 + 5,010
COUNTS = [
    ("softmax", IMAGE, 10, {}, 7_850),
    ("mlp", IMAGE, 10, {"hidden": (100,)}, 79_510),
    ("mlp", (8, 8), 3, {"hidden": [5, 4]}, 325 + 24 + 15),
    ("mlp", IMAGE, 10, {"hidden": ()}, 7_850),
    ("mlp", (8, 8), 10, {}, 65 * 64 + 65 * 10),
    ("cnn", IMAGE, 10, {}, 431_080),
    ("cnn", (28, 28, 1), 3, {}, 426_070 + 501 * 3),
]


@pytest.mark.parametrize(("name", "shape", "classes", "options", "count"), COUNTS)
def test_parameters_are_one_flat_vector_of_the_stated_length(name, shape, classes, options, count):
    model = models.build(name, shape, classes, **options)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert (params.shape, params.dtype) == ((count,), jnp.float32)
    x, y = batch_of(shape, classes)
    logits = jax.eval_shape(model.predict, params, x)
    assert (logits.shape, logits.dtype) == ((6, classes), jnp.float32)
    assert jax.eval_shape(model.loss, params, x, y).shape == ()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_same_key_gives_the_same_parameters_and_another_key_others(name):
    init = jax.jit(models.build(name, IMAGE, 10).init)
    params, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(params, again)
    assert not np.array_equal(params, other)
    assert np.isfinite(params).all()


def test_weights_start_with_variance_one_over_inputs_and_biases_at_zero():
    # LeCun: a truncated normal, rescaled to the stated variance
    params = np.asarray(models.build("softmax", IMAGE, 10).init(jax.random.key(0)))
    biases, weights = params[:10], params[10:]
    np.testing.assert_array_equal(biases, 0)
    assert weights.std() == pytest.approx(math.sqrt(1 / 784), rel=0.03)
    assert np.abs(weights).max() < 2.3 * math.sqrt(1 / 784)  # two deviations before the rescaling by 1/0.87962566


def test_the_loss_is_the_mean_cross_entropy():
    model = models.build("mlp", (8, 8), 10)
    params = model.init(jax.random.key(0))
    x, y = batch_of((8, 8), 10)
    logits = np.asarray(model.predict(params, x), np.float64)
    likelihood = np.exp(logits)[np.arange(6), y] / np.exp(logits).sum(axis=1)
    assert float(model.loss(params, x, y)) == pytest.approx(-np.log(likelihood).mean(), rel=1e-5)


def test_softmax_is_the_affine_map_of_its_parameters():
    model = models.build("softmax", (8, 8), 10)
    params = model.init(jax.random.key(0)) + 0.1
    x, _ = batch_of((8, 8), 10)
    flat, parts = np.asarray(params, np.float64), np.asarray(x, np.float64).reshape(6, 64)
    np.testing.assert_allclose(model.predict(params, x), parts @ flat[10:].reshape(64, 10) + flat[:10], atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "elu"])
def test_mlp_is_layers_with_the_activation_between_them_and_none_at_the_end(activation):
    model = models.build("mlp", (4,), 3, hidden=(5,), activation=activation)
    params = model.init(jax.random.key(1)) + 0.05
    x, _ = batch_of((4,), 3)
    flat = np.asarray(params, np.float64)
    bias1, kernel1, bias2, kernel2 = np.split(flat, [5, 25, 28])
    hidden = np.asarray(x, np.float64) @ kernel1.reshape(4, 5) + bias1
    cube = np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)
    hidden = {
        "relu": np.maximum(hidden, 0),
        "tanh": np.tanh(hidden),
        "sigmoid": 1 / (1 + np.exp(-hidden)),
        "gelu": 0.5 * hidden * (1 + np.tanh(cube)),
        "elu": np.where(hidden > 0, hidden, np.exp(hidden) - 1),
    }[activation]
    np.testing.assert_allclose(model.predict(params, x), hidden @ kernel2.reshape(5, 3) + bias2, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"), [("softmax", (8, 8)), ("mlp", (8, 8)), pytest.param("cnn", IMAGE, marks=pytest.mark.slow)]
)
def test_gradients_agree_with_finite_differences(name, shape):
    options = {"mlp": {"activation": "tanh"}}.get(name, {})
    model = models.build(name, shape, 10, **options)
    params = model.init(jax.random.key(0))
    x, y = batch_of(shape, 10)
    loss, gradient = jax.jit(model.loss), jax.jit(jax.grad(model.loss))(params, x, y)
    direction = gradient / jnp.linalg.norm(gradient)
    step = 1e-2
    slope = (loss(params + step * direction, x, y) - loss(params - step * direction, x, y)) / (2 * step)
    assert float(slope) == pytest.approx(float(gradient @ direction), rel=2e-2)


@pytest.mark.parametrize("name", SHIPPED)
def test_training_fits_a_toy_set(name):
    model = models.build(name, IMAGE, 4)
    y = jnp.arange(16) % 4
    x = jax.nn.one_hot(y, 4)[:, :, None, None] * jnp.ones((7, 28))
    x = x.reshape(16, 28, 28) + 0.1 * jax.random.normal(jax.random.key(0), (16, 28, 28))
    optimizer = optax.adam(3e-3)

    def step(carry, _):
        params, state = carry
        change, state = optimizer.update(jax.grad(model.loss)(params, x, y), state)
        return (optax.apply_updates(params, change), state), None

    params = model.init(jax.random.key(1))
    (params, _), _ = jax.jit(lambda start: lax.scan(step, start, length=25))((params, optimizer.init(params)))
    assert float(model.loss(params, x, y)) < 0.1
    assert (model.predict(params, x).argmax(axis=1) == y).all()


# -- the convolutional network against the plain one ------------------------------------------


class Plain(nnx.Module):
    """The same network with flax's own convolution and pooling."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 20, (5, 5), padding="VALID", rngs=rngs)
        self.second = nnx.Conv(20, 50, (5, 5), padding="VALID", rngs=rngs)
        self.hidden = nnx.Linear(800, 500, rngs=rngs)
        self.output = nnx.Linear(500, 10, rngs=rngs)

    def __call__(self, x):
        for layer in (self.first, self.second):
            x = nnx.max_pool(nnx.relu(layer(x if x.ndim == 4 else x[..., None])), (2, 2), (2, 2))
        return self.output(nnx.relu(self.hidden(x.reshape(len(x), -1))))


def relative(found, wanted):
    return float(jnp.abs(found - wanted).max() / jnp.abs(wanted).max())


def test_cnn_gives_the_values_and_gradients_of_flaxs_own_layers_in_a_call_in_a_loop_and_batched():
    model, plain = models.build("cnn", IMAGE, 10), from_module(Plain, 10)
    params = model.init(jax.random.key(0))
    np.testing.assert_array_equal(params, plain.init(jax.random.key(0)))
    x, y = (part.reshape(2, 4, *part.shape[1:]) for part in batch_of(IMAGE, 10, size=8))
    wanted = jnp.stack([jax.jit(jax.grad(plain.loss))(params, *pair) for pair in zip(x, y, strict=True)])
    gradient = jax.grad(model.loss)
    assert relative(model.predict(params, x[0]), plain.predict(params, x[0])) < 1e-5
    assert relative(jnp.stack([jax.jit(gradient)(params, x[i], y[i]) for i in range(2)]), wanted) < 1e-5
    looped = jax.jit(lambda x, y: lax.map(lambda pair: gradient(params, *pair), (x, y)))(x, y)
    assert relative(looped, wanted) < 1e-5
    assert relative(jax.jit(jax.vmap(lambda x, y: gradient(params, x, y)))(x, y), wanted) < 1e-5
    own = jax.jit(jax.vmap(gradient))(jnp.stack([params, params]), x, y)
    assert relative(own, wanted) < 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_the_convolutions_gradients_are_right_for_one_channel_and_for_several(channels):
    keys = jax.random.split(jax.random.key(0), 2)
    # not square, so that rows and columns mixed up would show
    x, kernel = jax.random.normal(keys[0], (2, 9, 7, channels)), jax.random.normal(keys[1], (5, 5, channels, 4))
    check_grads(convolution, (x, kernel), order=1, modes=["rev"], rtol=2e-2, atol=2e-2)


def test_pooling_takes_the_largest_of_each_square_and_sends_the_gradient_there():
    x = jnp.asarray(np.random.default_rng(0).permutation(48).reshape(1, 4, 6, 2), jnp.float32)
    wanted = np.asarray(x).reshape(1, 2, 2, 3, 2, 2).max(axis=(2, 4))
    np.testing.assert_array_equal(pool(x), wanted)
    gradient = jax.grad(lambda x: (pool(x) * jnp.asarray(wanted + 1)).sum())(x)
    np.testing.assert_array_equal(gradient, np.where(np.isin(np.asarray(x), wanted), np.asarray(x) + 1, 0))


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "message"),
    [
        ("cnn", (8, 8), 10, {}, r"cnn needs images of 28x28 pixels.*\(8, 8\).*mlp"),
        ("cnn", (28, 28, 3), 10, {}, r"\(28, 28, 3\)"),
        ("mlp", (8, 8), 10, {"hidden": (0,)}, "hidden sizes >= 1"),
        ("mlp", (8, 8), 10, {"activation": "step"}, "knows the activations"),
        ("softmax", (8, 8), 1, {}, "classes >= 2, got 1"),
        ("softmax", (), 10, {}, "shape of positive sizes"),
        ("mlp", (0, 8), 10, {}, "shape of positive sizes"),
    ],
)
def test_impossible_models_are_refused(name, shape, classes, options, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, shape, classes, **options)


def test_a_module_that_holds_more_than_parameters_is_refused_by_name():
    with pytest.raises(ValueError, match=r"holds mean"):
        from_module(lambda rngs: nnx.BatchNorm(4, rngs=rngs))


def test_every_file_of_the_folder_is_a_model_that_is_found():
    assert {"softmax", "mlp", "cnn"} <= set(SHIPPED) <= set(models.available())


@pytest.mark.parametrize("name", SHIPPED)
def test_docstrings_hold_the_lines_that_other_code_reads(name):
    lines = (inspect.getdoc(models.factory(name)) or "").splitlines()
    for field in ("Parameters", "Source"):
        assert sum(line.startswith(f"{field}: ") for line in lines) == 1, field


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match=r"unknown model 'sofmax': did you mean 'softmax'\?"):
        models.build("sofmax", IMAGE, 10)
