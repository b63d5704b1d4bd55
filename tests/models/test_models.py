"""The promises of every model: one flat vector, the stated parameters, right gradients, and that it learns."""

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

from byzax import models
from byzax.models._convolution import convolution, pool
from byzax.models._layers import ACTIVATIONS
from byzax.models.base import from_module
from tests.nightly import by_night

FOLDER = Path(inspect.getfile(models)).parent
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem[0] != "_" and file.stem != "base")
IMAGE = (28, 28)
NET = str(Path(__file__).parent / "own.py")


def batch_of(shape, classes, size=6, seed=0, characters=False):
    """Samples of which no two are alike, with labels, or values where there are no classes."""
    x_key, y_key = jax.random.split(jax.random.key(seed))
    if characters:
        x = jax.random.randint(x_key, (size, *shape), 0, classes or 5)
    else:
        x = jax.random.uniform(x_key, (size, *shape))
    return x, jax.random.normal(y_key, (size,)) if classes is None else jax.random.randint(y_key, (size,), 0, classes)


def predicted(model, params, x):
    """The predictions of a model; where it has a norm over the batch, by what that measures on these samples."""
    measured = () if model.statistics is None else (model.statistics(params, x),)
    return model.predict(params, x, *measured)


# Every model, as small as it can be: name, shape, classes, options.
SMALL = [
    ("cnn", IMAGE, 4, {}),
    ("gru", (5, 3), 4, {"hidden": 6, "layers": 2}),
    ("lenet", IMAGE, 4, {}),
    ("linear", (4, 2), None, {"initialiser": "normal"}),
    ("lstm", (5, 3), 4, {"hidden": 6, "layers": 2}),
    ("mlp", (8, 8), 4, {"activation": "tanh"}),
    ("mlp", (8, 8), None, {"activation": "tanh", "norm": "batch"}),
    ("module", (8, 8), 4, {"path": f"{NET}:Small"}),
    ("module", (8, 8), 4, {"path": f"{NET}:Linen"}),
    ("resnet18", (4, 4), 4, {}),
    ("resnet20", (8, 8), 4, {}),
    ("rnn", (5, 3), 4, {"hidden": 6}),
    ("softmax", (8, 8), 4, {}),
    ("transformer", (5, 3), 4, {"width": 8, "heads": 2}),
]  # fmt: skip


def cases(table, day):
    """The cases of a table, of which those of other models than these are for the night: they take long to compile."""
    return [
        (pytest.param if case[0] in day else by_night)(
            *case, id="-".join([case[0], "x".join(map(str, case[1])), *map(str, case[3].values())])[:60]
        )
        for case in table
    ]


def test_every_model_is_in_the_table_of_small_ones():
    assert sorted({name for name, *_ in SMALL}) == SHIPPED


def recurrent(gates, inputs, hidden, layers, outputs):
    first = gates * hidden * (inputs + hidden + 1)
    return first + (layers - 1) * gates * hidden * (2 * hidden + 1) + (hidden + 1) * outputs


def residual(sizes, blocks, channels, classes, project):
    count = 9 * channels * sizes[0] + 2 * sizes[0] + (sizes[-1] + 1) * classes
    before = sizes[0]
    for size in sizes:
        count += sum(9 * (before if i == 0 else size) * size + 9 * size * size + 4 * size for i in range(blocks))
        count += before * size + 2 * size if project and before != size else 0
        before = size
    return count


# 784*10+10; 784*100+100 + 100*10+10; (64+1)*5 + (5+1)*4 + (4+1)*3;
# (25*1+1)*20 + (25*20+1)*50 + (4*4*50+1)*500 + (500+1)*10 = 520 + 25,050 + 400,500 + 5,010
# lenet: 6*26 + 16*151 + 120*401 + 84*121 + 10*85
COUNTS = [
    ("softmax", IMAGE, 10, {}, 7_850),
    ("softmax", IMAGE, 10, {"l1": 0.1, "l2": 0.1}, 7_850),
    ("linear", (13,), None, {"l2": 0.1}, 14),
    ("mlp", IMAGE, 10, {"hidden": (100,)}, 79_510),
    ("mlp", (8, 8), 3, {"hidden": [5, 4]}, 325 + 24 + 15),
    ("mlp", IMAGE, 10, {"hidden": ()}, 7_850),
    ("mlp", (8, 8), 10, {}, 65 * 64 + 65 * 10),
    ("mlp", (8, 8), None, {}, 65 * 64 + 65),
    ("mlp", (8, 8), 10, {"dropout": 0.5}, 65 * 64 + 65 * 10),
    *(("mlp", (8, 8), 10, {"norm": kind}, 65 * 64 + 2 * 64 + 65 * 10) for kind in ("batch", "layer", "group")),
    ("cnn", IMAGE, 10, {}, 431_080),
    ("cnn", (28, 28, 1), 3, {}, 426_070 + 501 * 3),
    ("lenet", IMAGE, 10, {}, 156 + 2_416 + 48_120 + 10_164 + 850),
    ("lenet", (32, 32), 10, {}, 61_706),
    ("lenet", (32, 32, 3), 7, {"pooling": "max"}, 61_706 + 2 * 150 - 3 * 85),
    ("resnet20", (32, 32, 3), 10, {}, 269_722),
    ("resnet20", (32, 32, 3), 10, {"norm": "batch"}, 269_722),
    ("resnet20", (8, 8), None, {}, residual((16, 32, 64), 3, 1, 1, False)),
    ("resnet18", (32, 32, 3), 10, {}, 11_173_962),
    ("resnet18", (8, 8), 4, {}, residual((64, 128, 256, 512), 2, 1, 4, True)),
    ("rnn", IMAGE, 10, {"hidden": 7}, recurrent(1, 28, 7, 1, 10)),
    ("rnn", (9,), 5, {"hidden": 7, "embedding": 3}, 5 * 3 + recurrent(1, 3, 7, 1, 5)),
    ("gru", IMAGE, None, {"hidden": 7, "layers": 3}, recurrent(3, 28, 7, 3, 1)),
    ("gru", (9,), 2, {"vocabulary": 50}, 50 * 8 + recurrent(3, 8, 128, 1, 2)),
    ("lstm", IMAGE, 10, {"hidden": 7, "layers": 2}, recurrent(4, 28, 7, 2, 10)),
    ("lstm", (80,), 90, {"hidden": 256, "layers": 2}, 820_522),
    ("transformer", (80,), 80, {}, 115_536),
    ("transformer", IMAGE, 10, {"width": 8, "heads": 2, "layers": 1}, 12 * 64 + 13 * 8 + 28 * 8 + 16 + 90 + 8 * 29),
    ("transformer", (9,), None, {"width": 8, "layers": 1, "vocabulary": 5}, 12 * 64 + 104 + 72 + 16 + 9 + 40),
]  # fmt: skip


LARGE = ("resnet18", "resnet20")


def test_the_formulas_give_the_numbers_that_are_known():
    # of the two residual networks as they are published with code for CIFAR-10
    assert residual((16, 32, 64), 3, 3, 10, False) == 269_722
    assert residual((64, 128, 256, 512), 2, 3, 10, True) == 11_173_962


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "count"),
    # by day the first of each model, and of the residual networks a small one of the blocks of both
    [
        case
        if (case[1] == (8, 8) and case[0] != "resnet18")
        or case[0] not in [*(other[0] for other in COUNTS[:place]), *LARGE]
        else by_night(*case)
        for place, case in enumerate(COUNTS)
    ],
)
def test_parameters_are_one_flat_vector_of_the_stated_length(name, shape, classes, options, count):
    model = models.build(name, shape, classes, **options)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert (params.shape, params.dtype) == ((count,), jnp.float32)
    characters = name in ("rnn", "lstm", "gru", "transformer") and len(shape) == 1
    x, y = jax.eval_shape(lambda: batch_of(shape, classes, characters=characters))
    outputs = jax.eval_shape(lambda params, x: predicted(model, params, x), params, x)
    assert (outputs.shape, outputs.dtype) == ((6,) if classes is None else (6, classes), jnp.float32)
    assert jax.eval_shape(model.loss, params, x, y).shape == ()
    assert jax.eval_shape(model.loss, params, x, y, jax.random.key(0)).shape == ()
    assert [each.shape for each in jax.eval_shape(model.judge, outputs, y)] == [(6,), (6,)]


@pytest.mark.parametrize(("name", "shape", "classes", "options"), cases(SMALL, {"mlp", "softmax"}))
def test_the_same_key_gives_the_same_parameters_and_another_key_others(name, shape, classes, options):
    init = jax.jit(models.build(name, shape, classes, **options).init)
    params, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(params, again)
    assert not np.array_equal(params, other)
    assert np.isfinite(params).all()


def test_linear_regression_starts_at_zero():
    assert not np.any(models.build("linear", (5,), None).init(jax.random.key(0)))


@pytest.mark.parametrize(
    ("initialiser", "variance"),
    [
        ("lecun_normal", 1 / 400), ("lecun_uniform", 1 / 400), ("glorot_normal", 2 / 600), ("glorot_uniform", 2 / 600),
        ("he_normal", 2 / 400), ("he_uniform", 2 / 400), ("normal", 1e-4), ("zeros", 0),
        by_night("orthogonal", 1 / 400),
    ],
)  # fmt: skip
def test_an_initialiser_gives_weights_of_its_variance(initialiser, variance):
    # (inputs, outputs) = (400, 200), for which each has a variance of its own but orthogonal, that of LeCun
    model = models.build("softmax", (400,), 200, initialiser=initialiser)
    weights = np.asarray(model.init(jax.random.key(0)))[200:]
    assert weights.var() == pytest.approx(variance, rel=0.03)
    if initialiser.endswith("uniform"):
        assert np.abs(weights).max() <= math.sqrt(3 * variance)
    if initialiser == "orthogonal":
        matrix = weights.reshape(400, 200)
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(200), atol=1e-5)


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


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
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
        "leaky_relu": np.where(hidden > 0, hidden, 0.01 * hidden),
        "elu": np.where(hidden > 0, hidden, np.exp(hidden) - 1),
    }[activation]
    np.testing.assert_allclose(model.predict(params, x), hidden @ kernel2.reshape(5, 3) + bias2, atol=1e-5)


@pytest.mark.parametrize(("name", "shape", "classes", "options"), cases(SMALL, {"linear"}))
def test_gradients_agree_with_finite_differences(name, shape, classes, options):
    model = models.build(name, shape, classes, **options)
    params = model.init(jax.random.key(0))
    x, y = batch_of(shape, classes)
    loss, gradient = jax.jit(model.loss), jax.jit(jax.grad(model.loss))(params, x, y)
    direction = gradient / jnp.linalg.norm(gradient)
    # the kinks of ReLU are near for thousands of units
    step = 1e-3 if name.startswith("resnet") else 1e-2
    slope = (loss(params + step * direction, x, y) - loss(params - step * direction, x, y)) / (2 * step)
    assert float(slope) == pytest.approx(float(gradient @ direction), rel=5e-2 if name.startswith("resnet") else 2e-2)


@pytest.mark.parametrize(("name", "shape", "classes", "options"), cases(SMALL, {"softmax"}))
def test_training_fits_a_toy_set(name, shape, classes, options):
    model = models.build(name, shape, classes, **options)
    y = jnp.arange(16) % 4
    # the label is where the sample is bright, in its first axis
    bright = jax.nn.one_hot(y, 4).reshape(16, 4, *[1] * (len(shape) - 1))
    x = jnp.resize(bright, (16, shape[0], *shape[1:])) if shape[0] < 4 else bright.repeat(-(-shape[0] // 4), axis=1)
    x = (x[:, : shape[0]] * jnp.ones(shape)) + 0.1 * jax.random.normal(jax.random.key(0), (16, *shape))
    y = y if classes else y.astype(float)
    optimizer = optax.adam(1e-2)

    def step(carry, _):
        params, state = carry
        change, state = optimizer.update(jax.grad(model.loss)(params, x, y), state)
        return (optax.apply_updates(params, change), state), None

    params = model.init(jax.random.key(1))
    (params, _), _ = jax.jit(lambda start: lax.scan(step, start, length=200))((params, optimizer.init(params)))
    assert float(model.loss(params, x, y)) < 0.1
    losses, right = model.judge(predicted(model, params, x), y)
    assert float(losses.max()) < 0.5
    assert np.isnan(right).all() if classes is None else right.all()


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "size", "stride"),
    # up to four channels products of patches, above convolutions
    [(1, 5, 1), (3, 5, 1), (3, 3, 1), (3, 1, 1), (5, 3, 1), (5, 4, 1), (3, 3, 2), (1, 3, 2), (3, 1, 2), (2, 2, 3)],
)
def test_the_convolutions_values_and_gradients_are_right_for_every_kernel_and_stride(channels, size, stride):
    keys = jax.random.split(jax.random.key(0), 2)
    # not square, so that rows and columns mixed up would show; with a rest that no kernel of stride 2 or 3 reaches
    x, kernel = jax.random.normal(keys[0], (2, 9, 8, channels)), jax.random.normal(keys[1], (size, size, channels, 4))
    given = np.asarray(x, np.float64)
    places = [range(0, length - size + 1, stride) for length in (9, 8)]
    wanted = [
        [np.einsum("bhwc,hwck->bk", given[:, i : i + size, j : j + size], kernel) for j in places[1]] for i in places[0]
    ]
    found = convolution(x, kernel, stride)
    np.testing.assert_allclose(found, np.moveaxis(np.array(wanted), 2, 0), rtol=1e-4, atol=1e-4)
    check_grads(lambda *each: convolution(*each, stride), (x, kernel), order=1, modes=["rev"], rtol=2e-2, atol=2e-2)


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
        ("mlp", (8, 8), 10, {"activation": "step"}, "^mlp: activation must be 'relu', .* or 'leaky_relu', got 'step'"),
        ("softmax", (8, 8), 1, {}, "classes >= 2, got 1"),
        ("softmax", (8, 8), None, {}, "softmax needs data with classes, this has values: take the model linear"),
        ("linear", (8,), 3, {}, "linear needs data with values, this has 3 classes: take the model softmax"),
        ("mlp", (8, 8), 10, {"hidden": [8, 0]}, "^mlp: hidden must be at least 1"),
        ("mlp", (8, 8), 10, {"norm": "group", "groups": 7}, "^mlp: groups must divide the features 64 .*, got 7"),
        ("lenet", (8, 8), 10, {}, r"28x28 or 32x32 pixels.*\(8, 8\).*resnet20"),
        ("lenet", (28,), 10, {}, "needs images of shape"),
        ("resnet20", (8,), 10, {}, "resnet20 needs images"),
        ("resnet20", (8, 8), 10, {"groups": 32}, "^resnet20: groups must divide the features 16, 32, 64 .*, got 32"),
        ("rnn", (8, 8, 1), 10, {}, "needs sequences"),
        ("rnn", (8,), None, {}, "^rnn: vocabulary must be the number of characters .*, got None"),
        ("lstm", (8, 3), 10, {"vocabulary": 5}, "^lstm: vocabulary must be null: it is for characters.*, got 5"),
        ("transformer", (8, 3), 10, {"width": 10, "heads": 4}, "^transformer: heads must divide the width = 10, got 4"),
        ("module", (8,), 3, {"path": "own.py"}, "file.py:Class"),
        (
            "module",
            (8,),
            3,
            {"path": "missing.py:Net"},
            "^there is no file missing.py: a relative path begins at the working",
        ),
        ("module", (8,), 3, {"path": f"{NET}:Net"}, "own.py holds no Net"),
        ("module", (8,), 3, {"path": f"{NET}:function"}, "function in .*own.py is no flax module"),
        ("module", (8,), 3, {"path": f"{NET}:jnp"}, "jnp in .*own.py is no flax module"),
        ("module", (8,), 3, {"path": f"{NET}:Wide"}, "Wide asks for width: it is given shape, classes, rngs"),
        ("module", (8,), 3, {"path": f"{NET}:Statistics"}, "also holds norm.mean, norm.var.*nnx.GroupNorm"),
        ("module", (8,), 3, {"path": f"{NET}:LinenStatistics"}, "also holds batch_stats.*GroupNorm"),
        ("module", (8,), 3, {"path": f"{NET}:Nothing"}, "module Nothing in .*own.py needs parameters"),
        ("module", (8,), 3, {"path": f"{NET}:LinenNothing"}, "module LinenNothing in .* needs parameters"),
        ("module", (8,), 3, {"path": f"{NET}:NotCalled"}, r"module NotCalled in .* needs a method __call__\(self, x\)"),
        ("module", (8,), 3, {"path": f"{NET}:LinenNotCalled"}, "module LinenNotCalled in .* needs a method __call__"),
        ("module", (8,), 3, {"path": f"{NET}:AsksMore"}, "with samples alone, and its __call__ needs train too"),
        (
            "module",
            (2, 4),
            None,
            {"path": f"{NET}:Small"},
            "cannot be made: .*own.py:[0-9]+.; .* for those classes is None",
        ),
        (
            "module",
            (8,),
            None,
            {"path": f"{NET}:Linen"},
            "cannot be made: .*own.py:[0-9]+.; .* for those classes is None",
        ),
        ("softmax", (), 10, {}, "shape of positive sizes"),
        ("mlp", (0, 8), 10, {}, "shape of positive sizes"),
    ],
)
def test_impossible_models_are_refused(name, shape, classes, options, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, shape, classes, **options)


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("Outputs", 3, r"module Outputs in .*own.py must give logits \[6, 3\] for samples \[6, 8\], got \[6, 5\]"),
        ("Outputs", None, r"must give values \[6\] or \[6, 1\] for samples \[6, 8\], got \[6, 5\]"),
        ("Pair", 5, r"must give logits \[6, 5\] for samples \[6, 8\], got tuple"),
    ],
)
def test_a_module_that_gives_something_else_than_outputs_is_told_what_is_needed(name, classes, message):
    model = models.build("module", (8,), classes, path=f"{NET}:{name}")
    with pytest.raises(ValueError, match=message):
        model.loss(model.init(jax.random.key(0)), jnp.ones((6, 8)), jnp.zeros(6, int))


def test_a_module_that_holds_more_than_parameters_is_refused_by_name():
    with pytest.raises(ValueError, match=r"holds mean"):
        from_module(lambda rngs: nnx.BatchNorm(4, rngs=rngs), 4)


def test_every_file_of_the_folder_is_a_model_that_is_found():
    assert {"softmax", "mlp", "cnn"} <= set(SHIPPED) <= set(models.available())


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(ValueError, match=r"unknown model 'sofmax'; did you mean 'softmax'\?"):
        models.build("sofmax", IMAGE, 10)


def test_where_a_logit_is_nan_no_label_is_right():
    model = models.build("softmax", (2,), 3)
    logits = np.array([[np.nan] * 3, [np.nan, 1, 0], [0, 1, np.inf], [2, 1, 0]], np.float32)
    for label in range(3):
        _, right = model.judge(jnp.asarray(logits), jnp.full(4, label))
        assert np.asarray(right).tolist() == [False, False, label == 2, label == 0]
