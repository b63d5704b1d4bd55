"""Transforms with a memory: error feedback, EF21, differences, PowerSGD."""

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.options import OptionError, PartError
from byzax.simulator import transforms
from byzax.simulator.transforms import Transform, WireKeys
from tests.simulator.wire import DRAWS, SHAPES, D, assert_mean, keys_of, made, received, squared, vector_of

WITH_MEMORY = [
    name
    for name in transforms.available()
    if "error_feedback" in inspect.signature(transforms.factory(name)).parameters
]


def test_powersgd_sends_a_matrix_of_its_rank_and_finds_the_largest_directions_of_another():
    rng = np.random.default_rng(0)
    a, b = np.linalg.qr(rng.normal(size=(9, 8)))[0], np.linalg.qr(rng.normal(size=(8, 8)))[0]
    transform = jax.jit(partial(_send, transforms.build("powersgd", ((9, 8),), rank=2)))
    low = (a[:, :2] * [3, 1e-2]) @ b[:, :2].T
    vector = low.ravel().astype(np.float32)
    got, _ = transform(vector, transforms.build("powersgd", ((9, 8),), rank=2).init())
    np.testing.assert_allclose(got, vector, atol=1e-5)
    # the same matrix again and again: the warm start makes it power iteration
    matrix = (a * 2.0 ** -np.arange(8)) @ b.T
    state, best = transforms.build("powersgd", ((9, 8),), rank=2).init(), (a[:, :2] * [1, 0.5]) @ b[:, :2].T
    for _ in range(12):
        got, state = transform(matrix.ravel().astype(np.float32), state)
    np.testing.assert_allclose(got, best.ravel(), atol=1e-4)


def _send(transform: Transform, vector: Any, state: Any) -> Any:
    message, state = transform.encode(keys_of(0), vector, state)
    return transform.decode(keys_of(0), message, ())[0], state


def test_powersgd_goes_on_after_a_gradient_of_zeros_and_one_of_nan():
    transform = transforms.build("powersgd", ((9, 8),), rank=2)
    _, state = _send(transform, jnp.zeros(72), transform.init())
    _, state = _send(transform, jnp.full(72, jnp.nan), state)
    assert all(np.isfinite(q).all() and np.abs(q).max(axis=0).min() > 0 for q in state)
    vector = np.outer(np.arange(1, 10), np.arange(1, 9)).ravel().astype(np.float32)
    np.testing.assert_allclose(_send(transform, jnp.asarray(vector), state)[0], vector, rtol=1e-4)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_the_memory_of_error_feedback_is_the_sum_of_what_was_left_out(name):
    options = {"threshold": {"above": 1.5}, "top_k": {"share": 0.05}}.get(name, {})
    transform = transforms.build(name, SHAPES, **options, error_feedback=True)
    encode = jax.jit(transform.encode)
    assert transform.contraction is None
    assert not transform.unbiased
    state, sent, total = transform.init(), np.zeros(D), np.zeros(D)
    for step in range(8):
        vector = vector_of(step)
        message, state = encode(keys_of(step), vector, state)
        sent += np.asarray(transform.decode(keys_of(step), message, ())[0])
        total += vector
    left = total - sent
    assert np.abs(left).max() > 1e-5
    np.testing.assert_allclose(state.error, left, atol=1e-5)
    # NaN is sent, and leaves the memory finite
    message, state = encode(keys_of(9), jnp.full(D, jnp.nan), state)
    assert not np.isfinite(transform.decode(keys_of(9), message, ())[0]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_error_feedback_brings_the_mean_of_sent_vectors_to_a_constant_one():
    vector = np.linspace(0.5, 1.5, D).astype(np.float32)
    transform = transforms.build("top_k", SHAPES, share=0.1, error_feedback=True)
    encode, state, sent = jax.jit(transform.encode), transform.init(), np.zeros(D)
    for step in range(100):
        message, state = encode(keys_of(step), vector, state)
        sent += np.asarray(transform.decode(keys_of(step), message, ())[0])
    assert np.abs(sent / 100 - vector).max() < 0.25
    assert np.abs(received(made("top_k-bitmap"), keys_of(0), vector) - vector).max() > 0.5


@pytest.mark.parametrize("case", ["ef21", "difference"])
def test_both_ends_keep_the_same(case):
    transform = made(case)
    sender, receiver = transform.init(), transform.init_receiver()
    for step in range(6):
        keys, vector = keys_of(step, step), vector_of(step)
        message, sender = transform.encode(keys, jnp.asarray(vector), sender)
        got, receiver = transform.decode(keys, message, receiver)
        np.testing.assert_array_equal(receiver, got)
        if case == "ef21":
            np.testing.assert_allclose(receiver, sender.estimate, atol=1e-6)
        elif message.is_whole:
            np.testing.assert_array_equal(got, vector)
        assert case == "ef21" or message.is_whole or step > 0


def test_ef21_comes_closer_by_delta_with_every_message():
    transform, vector = transforms.build("ef21", SHAPES, inner={"name": "top_k", "share": 0.1}), vector_of(5)
    sender, receiver, before = transform.init(), transform.init_receiver(), squared(vector)
    for _ in range(9):
        message, sender = transform.encode(keys_of(0), jnp.asarray(vector), sender)
        got, receiver = transform.decode(keys_of(0), message, receiver)
        error = squared(got - vector)
        assert error <= (1 - 15 / D) * before
        before = error
    assert before < 0.1 * squared(vector)


def test_difference_is_unbiased_and_its_errors_add_up():
    transform = made("difference")
    vectors_sent = jnp.asarray(np.cumsum([vector_of(step) for step in range(4)], axis=0))

    def one(draw: Any) -> Any:
        def step(states: Any, given: Any) -> Any:
            t, vector = given
            keys = WireKeys(jax.random.fold_in(jax.random.key(1), 10 * draw + t), keys_of(0, 10 * draw + t).shared)
            message, sender = transform.encode(keys, vector, states[0])
            got, receiver = transform.decode(keys, message, states[1])
            return (sender, receiver), (got, message.is_whole)

        return jax.lax.scan(step, (transform.init(), transform.init_receiver()), (jnp.arange(4), vectors_sent))[1]

    got, is_whole = map(np.asarray, jax.jit(jax.vmap(one))(jnp.arange(DRAWS)))
    assert transform.unbiased
    assert transform.omega is None
    assert_mean(np.asarray(got, np.float64), np.asarray(vectors_sent))
    assert is_whole[:, 0].all()
    # 12,000 coins
    assert abs(is_whole[:, 1:].mean() - 0.4) < 5 * np.sqrt(0.24 / 12_000)
    # omega = D / 15 - 1, and no coin fell: errors of the changes 1 and 2 add up
    never = ~is_whole[:, 1:3].any(axis=1)
    changes = [squared(vector_of(step)) for step in (1, 2)]
    errors = ((got[never, 2] - np.asarray(vectors_sent)[2]) ** 2).sum(axis=1)
    expected = (D / 15 - 1) * sum(changes)
    assert abs(errors.mean() - expected) <= 5 * errors.std() / np.sqrt(never.sum())


def test_a_coin_falls_the_same_for_all_senders_of_an_update():
    transform = made("difference")
    _, started = transform.encode(keys_of(0), jnp.asarray(vector_of(0)), transform.init())
    coins = [
        [
            bool(transform.encode(keys_of(own, update), jnp.asarray(vector_of(own)), started)[0].is_whole)
            for own in (1, 2)
        ]
        for update in range(20)
    ]
    assert all(first == second for first, second in coins)
    assert {first for first, _ in coins} == {True, False}


REFUSED = [
    ("ef21", "random_k", "inner must be a contractive compressor without error feedback, such as top_k, got random_k"),
    ("ef21", "threshold", "inner must be a contractive compressor"),
    ("ef21", {"name": "top_k", "error_feedback": True}, "inner must be a contractive compressor"),
    ("ef21", "difference", "inner must be a contractive compressor"),
    ("ef21", {"share": 0.1}, "inner must have a name"),
    ("difference", "top_k", "inner must be an unbiased compressor, such as random_k, got top_k"),
    ("difference", "ef21", "inner must be an unbiased compressor"),
]


@pytest.mark.parametrize(("name", "inner", "message"), REFUSED)
def test_a_compressor_of_another_class_is_refused(name, inner, message):
    with pytest.raises(OptionError, match=f"^{name}: {message}"):
        transforms.build(name, SHAPES, inner=inner)


def test_a_compressor_of_ones_own_can_be_inside(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import jax.numpy as jnp\n"
        "from byzax.simulator.transforms.base import stateless\n"
        "def mine(shapes, *, first: int = 3):\n"
        "    cut = lambda keys, vector: jnp.where(jnp.arange(vector.size) < first, vector, 0)\n"
        "    return stateless(cut, lambda keys, values: values, 32 * first, contraction=0.01)\n"
        "def wrong(shapes):\n"
        "    return 3\n"
    )
    function = transforms.factory(f"{file}:mine")
    for inner in (function, f"{file}:mine", {"name": f"{file}:mine", "first": 5}):
        transform = transforms.build("ef21", SHAPES, inner=inner)
        got = received(transform, keys_of(0), np.ones(D, np.float32))
        assert got.sum() == (5 if isinstance(inner, dict) else 3)
    with pytest.raises(PartError, match=r"^inner must give a Transform, got int \(.*mine\.py:6\)$"):
        transforms.build("ef21", SHAPES, inner=f"{file}:wrong")
