"""The parts that models are made of: penalties, norms, dropout, sequences, attention, and modules of a user."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from byzax import models
from byzax.models import _layers, _recurrent
from byzax.models._layers import BatchNorm
from byzax.models._residual import ResidualBlock
from byzax.models.transformer import TransformerNetwork
from tests.models.test_models import NET, batch_of
from tests.nightly import by_day, by_night

F64 = np.float64


def gradient_of(model, params, x, y, key=None):
    # compiled as a whole: operation by operation takes several times as long
    return np.asarray(jax.jit(jax.grad(model.loss))(params, x, y, key), F64)


# -- linear and softmax against NumPy -----------------------------------------------------------


@pytest.mark.parametrize(("l1", "l2"), [by_night(0.0, 0.0), by_night(0.0, 0.3), by_night(0.2, 0.0), (0.2, 0.3)])
def test_linear_regression_has_the_loss_and_gradient_of_least_squares_ridge_lasso_and_elastic_net(l1, l2):
    model = models.build("linear", (2, 3), None, l1=l1, l2=l2)
    x, y = batch_of((2, 3), None, size=9)
    params = jax.random.normal(jax.random.key(5), (7,))
    design, bias, weights = np.asarray(x, F64).reshape(9, 6), float(params[0]), np.asarray(params[1:], F64)
    errors = design @ weights + bias - np.asarray(y, F64)
    wanted = (errors**2).mean() + l1 * abs(weights).sum() + l2 * (weights**2).sum()
    assert float(model.loss(params, x, y)) == pytest.approx(wanted, rel=1e-5)
    slope = 2 * design.T @ errors / 9 + l1 * np.sign(weights) + 2 * l2 * weights
    np.testing.assert_allclose(gradient_of(model, params, x, y), [2 * errors.mean(), *slope], rtol=1e-4, atol=1e-5)
    # what is measured is without the penalty
    losses, right = model.judge(model.predict(params, x), y)
    np.testing.assert_allclose(losses, errors**2, rtol=1e-4)
    assert np.isnan(right).all()


def test_the_gradient_is_zero_at_the_closed_form_of_ridge():
    model = models.build("linear", (6,), None, l2=0.3)
    x, y = batch_of((6,), None, size=20)
    design = np.column_stack([np.ones(20), np.asarray(x, F64)])
    penalty = 20 * 0.3 * np.diag([0, 1, 1, 1, 1, 1, 1])
    solution = np.linalg.solve(design.T @ design + penalty, design.T @ np.asarray(y, F64))
    assert np.abs(gradient_of(model, jnp.asarray(solution, jnp.float32), x, y)).max() < 1e-5


def test_softmax_has_the_gradient_of_its_penalties_and_none_of_them_on_the_biases():
    x, y = batch_of((4,), 3, size=8)
    params = jax.random.normal(jax.random.key(5), (15,))
    weights = np.asarray(params[3:], F64)
    plain = gradient_of(models.build("softmax", (4,), 3), params, x, y)
    logits = np.asarray(x, F64) @ weights.reshape(4, 3) + np.asarray(params[:3], F64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - np.eye(3)[np.asarray(y)]
    np.testing.assert_allclose(plain[:3], shares.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(plain[3:].reshape(4, 3), np.asarray(x, F64).T @ shares / 8, atol=1e-6)
    penalised = gradient_of(models.build("softmax", (4,), 3, l1=0.2, l2=0.3), params, x, y)
    np.testing.assert_allclose(penalised[:3], plain[:3], atol=1e-6)
    np.testing.assert_allclose(penalised[3:], plain[3:] + 0.2 * np.sign(weights) + 0.6 * weights, atol=1e-6)


# -- norms and dropout --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["batch", "layer", "group"])
def test_a_norm_takes_its_statistics_where_its_name_says(kind):
    model = models.build("mlp", (5,), 3, hidden=(4,), activation="tanh", norm=kind, groups=2)
    params = np.asarray(jax.random.normal(jax.random.key(1), model.init(jax.random.key(0)).shape), F64)
    x, _ = batch_of((5,), 3)
    bias1, kernel1, bias, scale, bias2, kernel2 = np.split(params, [4, 24, 28, 32, 35])
    hidden = np.asarray(x, F64) @ kernel1.reshape(5, 4) + bias1
    shape, axis = {"batch": ((6, 4), 0), "layer": ((6, 4), 1), "group": ((6, 2, 2), 2)}[kind]
    parts = hidden.reshape(shape)
    parts = (parts - parts.mean(axis, keepdims=True)) / np.sqrt(parts.var(axis, keepdims=True) + 1e-5)
    hidden = np.tanh(parts.reshape(6, 4) * scale + bias)
    wanted = hidden @ kernel2.reshape(4, 3) + bias2
    params = jnp.asarray(params, jnp.float32)
    measured = (model.statistics(params, x),) if kind == "batch" else ()
    np.testing.assert_allclose(model.predict(params, x, *measured), wanted, rtol=1e-3, atol=1e-4)


NORMS = ("none", "batch", "layer", "group")
KEY = jax.random.key(0)
NORMED = [
    ("mlp", (5,), {"norm": "batch"}),
    by_night("resnet20", (4, 4), {"norm": "batch"}),
]


@pytest.mark.parametrize(("name", "shape", "options"), NORMED)
def test_batch_norm_predicts_each_sample_by_itself_by_what_it_measured(name, shape, options):
    model = models.build(name, shape, 3, **options)
    params = model.init(jax.random.key(0))
    x, y = batch_of(shape, 3)
    measured = model.statistics(params, 2 * x + 1)
    whole = model.predict(params, x, measured)
    np.testing.assert_allclose(model.predict(params, x[::-1], measured), whole[::-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(params, x[:1], measured), whole[:1], rtol=1e-5, atol=1e-5)
    assert not np.allclose(model.predict(params, x, model.statistics(params, x)), whole, atol=1e-2)
    # in training it goes by the batch at hand, and with what was measured there predictions agree
    losses, _ = model.judge(model.predict(params, x, model.statistics(params, x)), y)
    assert float(model.loss(params, x, y)) == pytest.approx(float(losses.mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        *NORMED,
        by_night("mlp", (5,), {"norm": "layer", "groups": 2}),
        by_night("mlp", (5,), {}),
        by_night("softmax", (5,), {"l2": 0.1}),
    ],
)
def test_samples_without_a_share_count_for_nothing(name, shape, options):
    # in float64: a norm over two different samples is ill-conditioned, and the last bits of float32 make a percent
    with jax.enable_x64(True):
        model = models.build(name, shape, 3, **options)
        params = model.init(jax.random.key(0)).astype(jnp.float64)
        x, y = batch_of(shape, 3)
        x = jnp.asarray(x, jnp.float64)
        shares = jnp.array([0.25] * 4 + [0.0] * 2)
        gradient = jax.jit(jax.grad(model.loss))
        few, filled = gradient(params, x[:4], y[:4]), gradient(params, x.at[4:].set(100.0), y, None, shares)
        np.testing.assert_allclose(filled, few, rtol=1e-6, atol=1e-8 * np.abs(few).max())
        doubled = gradient(params, x[jnp.array([0, 0, 1])], y[jnp.array([0, 0, 1])])
        weighted = gradient(params, x[:2], y[:2], None, jnp.array([2 / 3, 1 / 3]))
        np.testing.assert_allclose(weighted, doubled, rtol=1e-6, atol=1e-8 * np.abs(doubled).max())


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        *(("mlp", (5,), {"norm": norm}) for norm in NORMS),
        ("mlp", (5,), {"norm": "batch", "hidden": ()}),
        ("resnet20", (4, 4), {"norm": "batch"}),
        *(by_night("resnet20", shape, {"norm": "batch"}) for shape in [(1, 1), (5, 5), (4, 5)]),
        *(by_night("resnet18", (side, side, 3), {"norm": "batch"}) for side in (8, 9)),
        by_night("resnet20", (4, 4), {}),
        ("softmax", (5,), {}),
    ],
)
def test_the_fewest_samples_that_a_model_declares_are_those_it_learns_from(name, shape, options):
    model = models.build(name, shape, 3, **options)
    fails = False
    try:
        jax.eval_shape(lambda key: model.loss(model.init(key), jnp.ones((1, *shape)), jnp.zeros(1, int)), KEY)
    except ValueError:
        fails = True
    assert model.least_batch == (2 if fails else 1)
    few = jnp.ones((model.least_batch, *shape))
    jax.eval_shape(lambda key: model.loss(model.init(key), few, jnp.zeros(model.least_batch, int)), KEY)


def test_batch_norm_refuses_to_train_on_a_single_sample():
    model = models.build("mlp", (5,), 3, norm="batch")
    params = model.init(jax.random.key(0))
    x, y = batch_of((5,), 3)
    # a layer's scale does not matter to the statistics of the batch at hand
    assert float(model.loss(params, x, y)) == pytest.approx(float(model.loss(params, 10 * x, y)), rel=1e-2)
    with pytest.raises(ValueError, match=r"single sample gives its bias.*batches of 2 or more"):
        model.loss(params, x[:1], y[:1])
    # an image has many places
    assert BatchNorm(2)(jnp.ones((1, 3, 3, 2))).shape == (1, 3, 3, 2)


DROPPING = [
    ("mlp", (8, 8), 3, {"dropout": 0.5}),
    ("rnn", (4, 3), 3, {"hidden": 8, "dropout": 0.5}),
    ("transformer", (4, 3), 3, {"width": 8, "layers": 1, "dropout": 0.5}),
    ("module", (8, 8), 3, {"path": f"{NET}:Small"}),
    ("module", (8, 8), 3, {"path": f"{NET}:Linen"}),
    ("module", (8, 8), None, {"path": f"{NET}:Deterministic"}),
]


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options"),
    [case if case[0] == "mlp" or "Small" in str(case) else by_night(*case) for case in DROPPING],
)
def test_dropout_drops_by_the_key_and_nothing_without_one(name, shape, classes, options):
    model = models.build(name, shape, classes, **options)
    params = model.init(jax.random.key(0))
    x, y = batch_of(shape, classes)
    loss = jax.jit(model.loss)
    one, again, other = (float(loss(params, x, y, jax.random.key(seed))) for seed in (1, 1, 2))
    assert one == again != other
    calm = float(model.judge(model.predict(params, x), y)[0].mean())
    assert float(loss(params, x, y)) == pytest.approx(calm, rel=1e-5)
    assert calm not in (one, other)


def test_dropout_leaves_the_stated_share_and_the_mean():
    # units that all give 1, the mean of which is read: with dropout the share that is left, divided by itself
    model = models.build("mlp", (1,), None, hidden=(10_000,), dropout=0.3)
    params = jnp.concatenate([jnp.ones(10_000), jnp.zeros(10_000), jnp.zeros(1), jnp.full(10_000, 1e-4)])
    found = jnp.sqrt(model.loss(params, jnp.ones((1, 1)), jnp.zeros(1), jax.random.key(0)))
    assert float(found) != 1
    # four standard deviations of a mean of 10,000 such draws
    assert float(found) == pytest.approx(1, abs=4 * np.sqrt(0.3 / 0.7 / 10_000))


def test_each_place_of_a_module_drops_by_itself():
    model = models.build("mlp", (4,), None, hidden=(400, 400), dropout=0.5, activation="relu", initialiser="zeros")
    # the second layer hands on what the first gave, unit by unit; both start from 1
    identity = np.eye(400, dtype=np.float32).ravel()
    parts = [np.ones(400), np.zeros(1600), np.zeros(400), identity, np.zeros(1), np.full(400, 1 / 400)]
    params = jnp.asarray(np.concatenate(parts), jnp.float32)
    found = jnp.sqrt(model.loss(params, jnp.ones((1, 4)), jnp.zeros(1), jax.random.key(0)))
    # a quarter of the units is left, four times as large; with the same mask twice it were half of them: 2
    assert float(found) == pytest.approx(1, abs=0.4)


# -- sequences ----------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def read(name, x, kernel, recurrent, bias):
    """The outputs of one layer at all steps, `[b, t, h]`, from the equations."""
    size = recurrent.shape[0]
    h, c, outputs = np.zeros((len(x), size)), np.zeros((len(x), size)), []
    w, u, b = (np.split(each, each.shape[-1] // size, axis=-1) for each in (kernel, recurrent, bias))
    for step in x.swapaxes(0, 1):
        gates = [step @ w[i] + h @ u[i] + b[i] for i in range(len(w))]
        if name == "rnn":
            h = np.tanh(gates[0])
        elif name == "lstm":
            c = sigmoid(gates[1]) * c + sigmoid(gates[0]) * np.tanh(gates[2])
            h = sigmoid(gates[3]) * np.tanh(c)
        else:
            z, r = sigmoid(gates[0]), sigmoid(gates[1])
            h = z * h + (1 - z) * np.tanh(step @ w[2] + (r * h) @ u[2] + b[2])
        outputs.append(h)
    return np.stack(outputs, axis=1)


GATES = {"rnn": 1, "gru": 3, "lstm": 4}


@pytest.mark.parametrize("name", by_day(["rnn"], GATES))
def test_a_recurrent_network_is_its_equations_and_a_linear_layer_at_the_last_step(name):
    model = models.build(name, (5,), 7, hidden=4, layers=2, embedding=3)
    d = len(model.init(jax.random.key(0)))
    params = jax.random.normal(jax.random.key(1), (d,))
    x, _ = batch_of((5,), 7, characters=True)
    flat, g = np.asarray(params, F64), 4 * GATES[name]
    sizes = [21, g, 3 * g, 4 * g, g, 4 * g, 4 * g, 7, 28]
    table, *parts = np.split(flat, np.cumsum(sizes)[:-1])
    h = table.reshape(7, 3)[np.asarray(x)]
    for bias, kernel, recurrent in (parts[:3], parts[3:6]):
        h = read(name, h, kernel.reshape(-1, g), recurrent.reshape(4, g), bias)
    np.testing.assert_allclose(
        jax.jit(model.predict)(params, x), h[:, -1] @ parts[7].reshape(4, 7) + parts[6], atol=1e-4
    )


def test_the_forget_gates_begin_open():
    params = np.asarray(models.build("lstm", (5, 3), 7, hidden=4, forget_bias=2.0).init(jax.random.key(0)))
    np.testing.assert_array_equal(params[:16], [0] * 4 + [2] * 4 + [0] * 8)


@pytest.mark.parametrize("name", by_day(["gru"], GATES))
def test_the_gradients_of_a_recurrent_network_are_those_that_jax_derives_of_its_steps(monkeypatch, name):
    def derived(step, state, inputs, recurrent):
        def one(state, inputs):
            state, _ = step(state, inputs, recurrent)
            return state, state[0]

        return lax.scan(one, state, inputs)

    # more steps than those that gradients reach, and states between them that are not zero
    model = models.build(name, (6, 3), 4, hidden=5, layers=2, truncate=4)
    params = model.init(jax.random.key(0))
    x, y = batch_of((6, 3), 4)
    found, own = jax.jit(jax.grad(model.loss))(params, x, y), jax.jit(jax.vmap(jax.grad(model.loss), (0, None, None)))
    each = own(jnp.stack([params, 2 * params]), x, y)
    monkeypatch.setattr(_recurrent, "_run", derived)
    wanted = jax.jit(lambda params: jax.grad(model.loss)(params, x, y))(params)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(each[0], wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", GATES)
def test_gradients_of_a_truncated_network_reach_as_many_steps_back_as_it_says(name):
    x, y = batch_of((6, 3), 4)
    reached = {}
    for truncate in (None, 2, 6, 9):
        model = models.build(name, (6, 3), 4, hidden=5, layers=2, truncate=truncate)
        params = model.init(jax.random.key(0))
        reached[truncate] = np.asarray(jax.jit(jax.grad(model.loss, argnums=1))(params, x, y))
    assert (reached[None] != 0).any(axis=(0, 2)).all()
    np.testing.assert_array_equal(reached[6], reached[None])
    np.testing.assert_array_equal(reached[9], reached[None])
    assert (reached[2] != 0).any(axis=(0, 2)).tolist() == [False] * 4 + [True] * 2
    # what the last steps are told is the same: the window ends where the sequence does
    np.testing.assert_allclose(reached[2][:, 4:], reached[None][:, 4:], rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_the_truncated_gradient_is_that_of_the_window_from_the_state_before_it():
    model = models.build("rnn", (6, 3), 4, hidden=5, truncate=2)
    params = model.init(jax.random.key(0))
    x, y = batch_of((6, 3), 4)

    def state(flat, h, steps):
        bias, kernel, recurrent = flat[:5], flat[5:20].reshape(3, 5), flat[20:45].reshape(5, 5)
        for i in steps:
            h = jnp.tanh(x[:, i] @ kernel + h @ recurrent + bias)
        return h

    def window(flat, start):
        logits = state(flat, start, range(4, 6)) @ flat[49:].reshape(5, 4) + flat[45:49]
        return -jax.nn.log_softmax(logits)[jnp.arange(6), y].mean()

    before = state(params, jnp.zeros((6, 5)), range(4))
    assert float(model.loss(params, x, y)) == pytest.approx(float(window(params, before)), rel=1e-5)
    wanted = jax.grad(window)(params, before)
    np.testing.assert_allclose(jax.grad(model.loss)(params, x, y), wanted, rtol=1e-4, atol=1e-6)
    whole = models.build("rnn", (6, 3), 4, hidden=5)
    assert not np.allclose(jax.grad(whole.loss)(params, x, y), wanted, atol=1e-4)


@pytest.mark.parametrize("name", by_day(["rnn"], ("rnn", "transformer")))
def test_numbers_where_characters_are_expected_are_refused(name):
    model = models.build(name, (5,), 7)
    with pytest.raises(ValueError, match=r"whole numbers below the vocabulary; these are float32: .*\(t, features\)"):
        jax.eval_shape(lambda key: model.predict(model.init(key), jnp.zeros((2, 5))), jax.random.key(0))


# -- transformer --------------------------------------------------------------------------------


def normed(x, bias, scale):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + bias


@pytest.mark.slow
def test_a_transformer_is_causal_attention_and_a_network_after_norms_read_at_the_last_step():
    width, heads, t = 4, 2, 5
    model = models.build("transformer", (t,), 7, width=width, heads=heads, layers=1)
    params = jax.random.normal(jax.random.key(1), model.init(jax.random.key(0)).shape)
    x, _ = batch_of((t,), 7, characters=True)
    # in the order of the sorted paths
    sizes = {
        "qkv_bias": 12, "qkv": 48, "first_bias": 4, "first": 4, "inner_bias": 16, "inner": 64, "second_bias": 4,
        "second": 4, "mix_bias": 4, "mix": 16, "outer_bias": 4, "outer": 64, "norm_bias": 4, "norm": 4,
        "output_bias": 7, "output": 28, "positions": 20, "table": 28,
    }  # fmt: skip
    parts = np.split(np.asarray(params, F64), np.cumsum(list(sizes.values()))[:-1])
    order = dict(zip(sizes, parts, strict=True))
    h = order["table"].reshape(7, 4)[np.asarray(x)] + order["positions"].reshape(t, 4)
    qkv = normed(h, order["first_bias"], order["first"]) @ order["qkv"].reshape(4, 12) + order["qkv_bias"]
    q, k, v = (each.reshape(6, t, heads, 2) for each in np.split(qkv, 3, axis=-1))
    scores = np.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(2)
    scores = np.where(np.tril(np.ones((t, t))), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    attended = np.einsum("bhij,bjhd->bihd", shares / shares.sum(-1, keepdims=True), v).reshape(6, t, 4)
    h = h + attended @ order["mix"].reshape(4, 4) + order["mix_bias"]
    inner = normed(h, order["second_bias"], order["second"]) @ order["inner"].reshape(4, 16) + order["inner_bias"]
    inner = 0.5 * inner * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    h = h + inner @ order["outer"].reshape(16, 4) + order["outer_bias"]
    wanted = normed(h[:, -1], order["norm_bias"], order["norm"]) @ order["output"].reshape(4, 7) + order["output_bias"]
    np.testing.assert_allclose(model.predict(params, x), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_no_step_of_a_transformer_sees_a_later_one_and_the_last_sees_all():
    network = TransformerNetwork(5, 3, None, 8, 2, 2, 0.0, 4, "glorot_uniform", nnx.Rngs(0))
    x, _ = batch_of((5, 3), 4)
    states = network.states(x)
    for i in range(5):
        changed = np.abs(network.states(x.at[:, i].add(1.0)) - states).max(axis=(0, 2)) > 1e-6
        assert changed.tolist() == [False] * i + [True] * (5 - i)


# -- residual networks --------------------------------------------------------------------------


def test_a_shortcut_without_parameters_takes_every_second_pixel_and_fills_up_with_zeros():
    def halved(inputs, outputs, size, stride=1, pad=0):
        return lambda x: jnp.zeros((*x.shape[:1], x.shape[1] // stride, x.shape[2] // stride, outputs))

    block = ResidualBlock(2, 4, 2, False, halved, lambda features: lambda x: x)
    x = jax.random.uniform(jax.random.key(0), (3, 6, 4, 2))
    found = block(x)
    np.testing.assert_array_equal(found[..., :2], x[:, ::2, ::2])
    np.testing.assert_array_equal(found[..., 2:], 0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), [("resnet20", {}), ("resnet20", {"norm": "batch"}), ("lenet", {})])
def test_the_convolutions_of_a_network_are_laxs_own_in_value_and_gradient(monkeypatch, name, options):
    shape = (28, 28) if name == "lenet" else (10, 8, 3)
    x, y = batch_of(shape, 4)
    found = []
    for convolve in (_layers._fast_convolution, lax.conv_general_dilated):
        monkeypatch.setattr(_layers, "_fast_convolution", convolve)
        model = models.build(name, shape, 4, **options)
        params = jax.jit(model.init)(jax.random.key(0))
        found.append(jax.jit(jax.value_and_grad(model.loss))(params, x, y))
    (one, gradient), (other, wanted) = found
    assert float(one) == pytest.approx(float(other), rel=1e-5)
    assert float(jnp.abs(gradient - wanted).max() / jnp.abs(wanted).max()) < 1e-4


# -- modules of a user --------------------------------------------------------------------------


def test_a_module_of_a_user_is_its_own_function_of_the_flat_parameters():
    model = models.build("module", (8, 8), 3, path=f"{NET}:Small")
    params = model.init(jax.random.key(0)) + 0.1
    x, _ = batch_of((8, 8), 3)
    bias1, kernel1, bias2, kernel2 = np.split(np.asarray(params, F64), [16, 1040, 1043])
    hidden = np.tanh(np.asarray(x, F64).reshape(6, 64) @ kernel1.reshape(64, 16) + bias1)
    np.testing.assert_allclose(model.predict(params, x), hidden @ kernel2.reshape(16, 3) + bias2, atol=1e-5)


def test_a_module_may_give_one_value_for_each_sample():
    model = models.build("module", (2,), None, path=f"{NET}:Value")
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(model.predict(jnp.array([2.0]), x), [6, 14])
    assert float(model.loss(jnp.array([2.0]), x, jnp.array([5.0, 16.0]))) == pytest.approx((1 + 4) / 2)


def test_a_linen_module_that_reads_characters_is_made_with_such():
    model = models.build("module", (5,), 7, path=f"{NET}:Letters", characters=True)
    x, _ = batch_of((5,), 7, characters=True)
    assert model.predict(model.init(jax.random.key(0)), x).shape == (6, 7)


def test_a_relative_path_begins_in_the_working_folder_and_a_changed_file_is_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (
        "from flax import nnx\n\nclass Net(nnx.Module):\n    def __init__(self, classes, rngs):\n"
        "        self.layer = nnx.Linear({size}, classes, rngs=rngs)\n\n    def __call__(self, x):\n"
        "        return self.layer(x[:, :{size}])\n"
    )
    for size in (3, 2):
        (tmp_path / "net.py").write_text(text.format(size=size))
        assert len(models.build("module", (4,), 3, path="net.py:Net").init(jax.random.key(0))) == 3 * size + 3


def test_a_file_that_cannot_be_loaded_is_named_with_its_line(tmp_path):
    (tmp_path / "net.py").write_text("import jax\n\n1 / 0\n")
    with pytest.raises(ValueError, match=r"net.py: ZeroDivisionError: division by zero \(.*net.py:3\)"):
        models.build("module", (4,), 3, path=f"{tmp_path}{os.sep}net.py:Net")
