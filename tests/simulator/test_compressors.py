"""Compressors against their definitions: unbiased ones, contractive ones, rounding to neighbours, limits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from byzax.simulator import transforms
from tests.simulator.wire import DRAWS, SHAPES, D, assert_mean, keys_of, made, received, squared, vector_of

UNBIASED = ["int8", "qsgd", "qsgd-wide", "terngrad", "natural", "random_k", "shared_mask"]
CONTRACTIVE = ["bfloat16", "sign", "top_k", "top_k-bitmap", "top_k-dense"]


# vectors whose error is as large as omega allows, in one coordinate or all
HARD: dict[str, tuple[Any, Any]] = {
    "int8": (((50,),), np.array([127.0] + [0.5] * 49)),
    "terngrad": (((49,),), np.array([8.0] + [1.0] * 48)),
    "natural": (((20,),), np.full(20, 4 / 3)),
    "random_k": (SHAPES, np.ones(D)),
    "shared_mask": (SHAPES, np.ones(D)),
}


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("case", UNBIASED)
def test_an_unbiased_compressor_is_unbiased_and_meets_its_omega(case, hard):
    shapes, vector = HARD.get(case, (SHAPES, vector_of(1))) if hard else (SHAPES, vector_of(0))
    transform, vector = made(case, shapes), np.asarray(vector, np.float32)
    assert transform.unbiased
    assert transform.omega is not None
    assert transform.contraction is None

    def one(draw: Any) -> Any:
        keys = keys_of(draw, draw)
        message, _ = transform.encode(keys, jnp.asarray(vector), transform.init())
        return transform.decode(keys, message, transform.init_receiver())[0]

    drawn = np.asarray(jax.jit(jax.vmap(one))(jnp.arange(DRAWS)), np.float64)
    assert_mean(drawn, vector)
    errors = ((drawn - vector) ** 2).sum(axis=1) / squared(vector)
    margin = 5 * errors.std() / np.sqrt(DRAWS) + 1e-6
    assert errors.mean() <= transform.omega + margin
    if hard and case in HARD:
        # of int8 the coordinate that sets the scale has no error, and 49 of 50 the largest
        share = 49 * 0.25 / squared(vector) if case == "int8" else transform.omega
        assert abs(errors.mean() - share) <= margin


NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False).map(
    lambda x: 0 if abs(x) < 2.0**-100 else x
)


def vectors(d: int) -> Any:
    """Vectors of one size, or of sizes from 1e-30 to 1e30 beside each other, and with zeros."""
    alike = st.builds(
        lambda x, size: np.float32(x * 10.0**size), arrays(np.float32, d, elements=st.floats(-1, 1, width=16)),
        st.integers(-24, 30),
    )  # fmt: skip
    return st.one_of(alike, arrays(np.float32, d, elements=NUMBERS))


@pytest.mark.parametrize("d", [1, 6])
@pytest.mark.parametrize("case", [*CONTRACTIVE, "powersgd"])
def test_a_contractive_compressor_meets_its_delta(case, d):
    transform = made(case, ((3, 2),) if d == 6 else ((1,),))
    delta = transform.contraction
    assert (delta is None) == (case == "powersgd")
    assert transform.omega is None
    assert not transform.unbiased

    @settings(max_examples=100, deadline=None)
    @given(vectors(d))
    @example(np.zeros(d, np.float32))
    @example(np.full(d, 1e30, np.float32))
    @example(np.full(d, -1e-25, np.float32))
    def check(vector: np.ndarray) -> None:
        error = squared(np.float64(received(transform, keys_of(0), vector)) - vector)
        assert error <= (1 - (delta or 0)) * squared(vector) * (1 + 1e-5) + 1e-12 * squared(vector)

    check()


@pytest.mark.parametrize("case", ["int8", "qsgd", "terngrad", "natural", "float16", "threshold"])
def test_every_number_is_rounded_to_a_neighbour(case):
    transform = made(case, ((6,),))

    @settings(max_examples=100, deadline=None)
    @given(vectors(6), st.integers(0, 2**31 - 1))
    @example(np.zeros(6, np.float32), 0)
    @example(np.full(6, 1e30, np.float32), 1)
    @example(np.full(6, -1e-25, np.float32), 2)
    @example(np.array([127, 126.5, -127, -126.5, 0.25, -0.25], np.float32), 3)
    def check(vector: np.ndarray, seed: int) -> None:
        got, exact = received(transform, keys_of(seed), vector).astype(np.float64), vector.astype(np.float64)
        largest = np.abs(exact).max()
        step = {
            "int8": largest / 127,
            "qsgd": np.sqrt(squared(vector)) / 5,
            "terngrad": largest,
            "natural": np.abs(exact),
            "float16": np.maximum(np.abs(exact) * 2.0**-11, 2.0**-25),
            "threshold": 2.2,
        }[case]
        held = np.abs(exact) < 65_504 if case == "float16" else np.full(6, True)
        assert (np.abs(got - exact) <= step * (1 + 1e-5))[held].all()
        # signs are those of the vector, and zeros are zeros
        assert (got * exact >= 0).all()
        assert (got[exact == 0] == 0).all()
        if case == "natural":
            assert all(np.frexp(np.abs(value))[0] == 0.5 for value in got[exact != 0])
        if case == "threshold":
            assert (got == np.where(np.abs(exact) > np.float32(2.2), exact, 0)).all()

    check()


def test_floats_are_rounded_to_the_nearest_and_ties_to_even():
    vector = np.concatenate(
        [vector_of(2), [1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 7e4, 3e-6, 1e-8]]
    )
    vector = vector.astype(np.float32)
    d = len(vector)
    with np.errstate(over="ignore"):
        expected = vector.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(received(made("float16", ((d,),)), keys_of(0), vector), expected)
    pattern = vector.view(np.uint32).astype(np.uint64)
    upper = (pattern + 0x7FFF + ((pattern >> 16) & 1)) >> 16
    expected = (upper << 16).astype(np.uint32).view(np.float32)
    np.testing.assert_array_equal(received(made("bfloat16", ((d,),)), keys_of(0), vector), expected)


def test_signs_and_largest_coordinates_are_those_of_the_definition():
    vector = np.array([3, -1, 0, -5, 2, 1], np.float32)
    np.testing.assert_allclose(received(made("sign", ((6,),)), keys_of(0), vector), [2, -2, 2, -2, 2, 2], rtol=1e-6)
    top = transforms.build("top_k", ((6,),), share=0.5)
    assert received(top, keys_of(0), vector).tolist() == [3, 0, 0, -5, 2, 0]
    # of equal ones the first
    assert received(top, keys_of(0), np.array([1, -1, 1, -1, 1, 1])).tolist() == [1, -1, 1, 0, 0, 0]


def test_the_scale_of_a_message_is_that_of_the_paper():
    vector = np.array([3, -4, 12, 0], np.float32)
    scales = {
        "qsgd": ("length", 13),
        "terngrad": ("scale", 12),
        "sign": ("scale", 4.75),
        "int8": ("scales", [12 / 127]),
    }
    for name, (field, expected) in scales.items():
        message, _ = made(name, ((4,),)).encode(keys_of(0), vector, ())
        np.testing.assert_allclose(getattr(message, field), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["int8", "terngrad", "sign", "natural", "top_k", "bfloat16"])
def test_the_largest_numbers_stay_finite(name):
    vector = np.full(6, 3e38, np.float32)
    got = received(made(name, ((6,),)), keys_of(0), vector)
    assert np.isfinite(got).all()
    if name == "natural":
        assert (got == 2.0**127).all()


WHOLE = [("top_k", {"share": 1.0}), ("random_k", {"share": 1.0}), ("shared_mask", {"share": 1.0}),
         ("threshold", {"above": 1e-30}), ("powersgd", {"rank": 5}), ("ef21", {"inner": {"name": "top_k", "share": 1}}),
         ("difference", {"inner": {"name": "random_k", "share": 1.0}, "probability": 0.3})]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), WHOLE)
def test_where_all_is_sent_the_vector_arrives(name, options):
    transform, vector = transforms.build(name, SHAPES, **options), vector_of(3)
    np.testing.assert_array_equal(received(transform, keys_of(3), vector), vector)


def test_more_levels_bring_qsgd_to_the_vector():
    vector = vector_of(4)
    for levels in (16, 2**10, 2**20):
        error = received(transforms.build("qsgd", SHAPES, levels=levels), keys_of(4), vector) - vector
        assert np.abs(error).max() <= np.sqrt(squared(vector)) * (1 / levels + 1e-6)


def test_a_mask_is_shared_by_the_senders_of_an_update_and_random_k_is_each_ones_own():
    ones = np.ones(D, np.float32)
    shared, own = made("shared_mask"), made("random_k")
    masks = [received(shared, keys_of(sender, 7), ones) for sender in (1, 2)]
    np.testing.assert_array_equal(*masks)
    assert not np.array_equal(masks[0], received(shared, keys_of(1, 8), ones))
    assert not np.array_equal(*[received(own, keys_of(sender, 7), ones) for sender in (1, 2)])
    assert np.unique(masks[0]).tolist() == pytest.approx([0, D / 15])
