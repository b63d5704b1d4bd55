"""Messages of the wire as real bytes, out of format, of several senders at once, and in compiled loops."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byzax.options import PartError
from byzax.simulator import transforms
from byzax.simulator.transforms import WireKeys, base
from tests.reference import packing
from tests.simulator.wire import CASES, SHAPES, D, keys_of, made, received, vector_of


def test_every_transform_has_a_case():
    assert {name for name, *_ in CASES.values()} == {*transforms.available()}


@pytest.mark.parametrize("case", CASES)
def test_a_message_takes_the_bits_that_it_says_and_is_decoded_from_its_bytes(case):
    transform, codec_of = made(case), CASES[case][2]
    sender, receiver, sizes = transform.init(), transform.init_receiver(), set()
    for step in range(5):
        keys = keys_of(step, step)
        message, sender = transform.encode(keys, jnp.asarray(vector_of(step)), sender)
        before = np.asarray(jax.tree.leaves(receiver)[0]) if jax.tree.leaves(receiver) else np.zeros(D)
        vector, receiver = transform.decode(keys, message, receiver)
        assert (vector.shape, vector.dtype) == ((D,), jnp.float32)
        codec = codec_of(keys)
        bits = codec.pack(message)
        counted = transform.bits(message)
        assert (counted.shape, counted.dtype) == ((), jnp.uint32)
        assert len(bits) == int(counted)
        reader = packing.Reader(packing.to_bytes(bits))
        unpacked = codec.unpack(reader)
        assert reader.at == len(bits)
        if case == "ef21" or (case.startswith("difference") and not message.is_whole):
            unpacked = unpacked + before
        np.testing.assert_allclose(vector, unpacked, rtol=1e-6, atol=1e-6)
        sizes.add(int(counted))
    # a vector and its change, and levels and thresholds that differ from message to message
    differ = {
        "difference",
        "difference-elias",
        "difference-mask",
        "qsgd-elias",
        "qsgd-elias-few",
        "threshold",
        "threshold-bitmap",
    }
    assert (len(sizes) > 1) == (case in differ)


def test_bits_of_the_largest_models_are_exact():
    d = base.LARGEST_D
    for count in (0, 1, d // 27, d // 2, d - 1, d):
        expected = min(count * (32 + 27), 32 * count + d, 32 * d)
        assert base.sparse_bits(count, d) == expected
        assert int(base.sparse_bits(jnp.uint32(count), d)) == expected
    # the longest of all, with what heads it
    assert 33 * d + 100 < 2**32
    for shapes in ((), ((0, 5),), ((d + 1,),)):
        with pytest.raises(PartError, match=r"^sign needs a model of 1 to 125,000,000 parameters, got d="):
            transforms.build("sign", shapes)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 7, 8, 15, 16, 17, 100, 65_535, 65_536, 2**20, 2**31])
def test_the_elias_code_has_the_length_that_qsgd_counts(number):
    from byzax.simulator.transforms.qsgd import _elias_length

    assert int(_elias_length(jnp.uint32(number))) == len(packing.elias(number))
    assert packing.Reader(packing.to_bytes(packing.elias(number))).elias() == number


def broken(message: Any, how: str) -> Any:
    """A message of the same shapes and types, out of format."""
    rng = np.random.default_rng(0)

    def leaf(value: Any) -> Any:
        value = jnp.asarray(value)
        if jnp.issubdtype(value.dtype, jnp.floating):
            sent = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "huge": 3e38, "negative": -1.0, "random": 1.0}[how]
            return jnp.full(value.shape, sent, jnp.float32).astype(value.dtype)
        if value.dtype == bool:
            return ~value
        bounds = np.iinfo(value.dtype)
        if how == "random":
            return jnp.asarray(rng.integers(bounds.min, bounds.max, value.shape, dtype=value.dtype, endpoint=True))
        return jnp.full_like(value, {"nan": 0, "inf": bounds.max, "-inf": bounds.min}.get(how, 1))

    return jax.tree.map(leaf, message)


@pytest.mark.parametrize("case", CASES)
def test_a_message_out_of_format_gives_a_row_and_touches_nobody_else(case):
    transform = made(case)
    message, _ = transform.encode(keys_of(1), jnp.asarray(vector_of(1)), transform.init())
    alone, _ = transform.decode(keys_of(1), message, transform.init_receiver())
    ways = ["nan", "inf", "-inf", "huge", "negative", "random"]
    together = jax.tree.map(lambda *each: jnp.stack(each), message, *[broken(message, how) for how in ways])
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 7), transform.init_receiver())
    got, after = jax.vmap(transform.decode, in_axes=(None, 0, 0))(keys_of(1), together, states)
    assert (got.shape, got.dtype) == ((7, D), jnp.float32)
    np.testing.assert_allclose(got[0], alone, rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    assert all(int(transform.bits(broken(message, how))) >= 0 for how in ways)


def test_places_that_do_not_exist_are_left_out_and_values_of_one_place_add_up():
    transform = transforms.build("top_k", ((6,),), share=0.9)
    message, _ = transform.encode(keys_of(0), jnp.arange(6.0), ())
    message = message._replace(places=jnp.array([-1, 6, 3, 3, 2**31 - 1]), values=jnp.array([9.0, 9, 1, 2, 9]))
    assert transform.decode(keys_of(0), message, ())[0].tolist() == [0, 0, 0, 3, 0, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
# of the other two the coordinate may not be drawn
@pytest.mark.parametrize("case", [case for case in CASES if case not in ("random_k", "shared_mask")])
def test_a_vector_that_is_not_finite_does_not_arrive_as_a_finite_one(case, bad):
    vector = vector_of(1)
    vector[17] = bad
    assert not np.isfinite(received(made(case), keys_of(1), vector)).all()


@pytest.mark.parametrize("case", CASES)
def test_senders_together_are_senders_one_by_one_and_a_loop_is_a_loop(case):
    transform = transforms.build(CASES[case][0], SHAPES, **CASES[case][1])
    given_vectors = jnp.asarray(np.stack([[vector_of(10 * sender + step) for step in range(3)] for sender in range(3)]))

    def run(sender: Any, vectors_of_sender: Any) -> Any:
        def step(states: Any, given: Any) -> Any:
            t, vector = given
            keys = WireKeys(jax.random.fold_in(jax.random.key(5), 10 * sender + t), keys_of(0, t).shared)
            message, own = transform.encode(keys, vector, states[0])
            got, receiver = transform.decode(keys, message, states[1])
            return (own, receiver), (got, transform.bits(message))

        return jax.lax.scan(step, (transform.init(), transform.init_receiver()), (jnp.arange(3), vectors_of_sender))

    (_, _), (rows, bits) = jax.jit(jax.vmap(run))(jnp.arange(3), given_vectors)
    alone = jax.jit(run)
    for sender in range(3):
        (_, _), (own_rows, own_bits) = alone(sender, given_vectors[sender])
        np.testing.assert_allclose(rows[sender], own_rows, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(bits[sender], own_bits)


def test_the_mean_size_of_difference_is_that_of_its_messages():
    transform = transforms.build("difference", SHAPES, probability=0.1)
    _, started = transform.encode(WireKeys(jax.random.key(0), jax.random.key(0)), jnp.ones(D), transform.init())

    def one(key):
        return transform.bits(transform.encode(WireKeys(key, key), jnp.ones(D), started)[0])

    sizes = np.asarray(jax.lax.map(one, jax.random.split(jax.random.key(1), 3000)), np.float64)
    assert abs(sizes.mean() - transform.mean_bits) < 4 * sizes.std() / np.sqrt(len(sizes))
