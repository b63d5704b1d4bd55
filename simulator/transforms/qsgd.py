"""QSGD (Alistarh et al. 2017): a length, and for each coordinate a sign and one of a few levels."""

import math
from typing import Annotated, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from pydantic import Field

from byzax.options import checked
from byzax.simulator.transforms.base import (
    Array,
    Shapes,
    Transform,
    WireKeys,
    round_at_random,
    scale_of,
    size,
    stateless,
)


class QsgdMessage(NamedTuple):
    """A message of qsgd.

    Attributes:
        length: `[]`, that of the vector.
        levels: `[d]`, from -s to s: the level with the sign of the coordinate.
    """

    length: Array
    levels: Array


@checked
def qsgd(
    shapes: Shapes,
    *,
    levels: Annotated[int, Field(ge=1, le=2**20)] = 16,
    coding: Literal["fixed", "elias"] = "fixed",
) -> Transform:
    """Rounds each coordinate's share of the length at random to one of s + 1 levels.

    Formula: C(v)_i = |v| sign(v_i) l_i / s, l_i = s |v_i| / |v| rounded down or up at random
    Bits: 32 + d (1 + ceil(log2(s + 1))); with coding elias 32, the Elias code of 1 + the number of levels above 0, and
        for each of these the codes of its distance to the one before and of its level, and a sign
    Error: unbiased, omega = min(d / s², sqrt(d) / s)

    The paper's experiments take the length of buckets of 512 coordinates; here it is that of the vector, as in its
    theory. A length beyond the range of a float32 is infinite.

    Args:
        shapes: The shapes of the model's parameters.
        levels: Number of levels above 0, s.
        coding: The code of levels. fixed: the same number of bits for each; elias: the Elias omega code of those above
            0 and of the distances between them, as in section 3.2 of the paper, shorter where most are 0.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.
        OptionError: For an option out of its range.

    References:
        Alistarh et al., NeurIPS 2017, "QSGD: Communication-efficient SGD via gradient quantization and encoding"
    """
    d, s = size("qsgd", shapes), int(levels)
    smallest = np.min_scalar_type(-s)

    def encode(keys: WireKeys, vector: Array) -> QsgdMessage:
        # squares of the vector itself would be infinite or zero for numbers beyond 1e19
        scale = scale_of(vector)
        unit = vector / scale
        length = jnp.sqrt(jnp.sum(unit**2))
        rounded = round_at_random(keys.own, s * jnp.abs(unit) / jnp.where(length == 0, 1, length))
        signed = jnp.copysign(jnp.minimum(rounded, s), vector)
        return QsgdMessage(scale * length, jnp.where(jnp.isfinite(length), signed, 0).astype(smallest))

    def decode(keys: WireKeys, message: QsgdMessage) -> Array:
        return message.length * (message.levels.astype(jnp.float32) / s)

    def elias_bits(message: QsgdMessage) -> Array:
        sent = message.levels != 0
        place = jnp.arange(1, d + 1, dtype=jnp.uint32)
        last = lax.cummax(jnp.where(sent, place, 0))
        before = jnp.pad(last[:-1], (1, 0))
        each = _elias_length(place - before) + 1 + _elias_length(jnp.abs(message.levels.astype(jnp.int32)))
        return 32 + _elias_length(1 + jnp.sum(sent)) + jnp.sum(jnp.where(sent, each, 0), dtype=jnp.uint32)

    fixed_bits = 32 + d * (1 + s.bit_length())
    omega = min(d / s**2, math.sqrt(d) / s)
    return stateless(encode, decode, fixed_bits if coding == "fixed" else elias_bits, unbiased=True, omega=omega)


def _elias_length(numbers: Array) -> Array:
    """The bits of the Elias omega code of whole numbers from 1 to 2^31: binary forms, each of the length before it."""
    numbers = numbers.astype(jnp.uint32)
    total = jnp.ones_like(numbers)
    for _ in range(4):
        more = 31 - lax.clz(jnp.maximum(numbers, 1))
        total = total + jnp.where(numbers > 1, more + 1, 0)
        numbers = more
    return total
