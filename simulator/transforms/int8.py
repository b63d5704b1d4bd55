"""Blocks of whole numbers of 8 bits, each block with a scale of its own."""

from typing import NamedTuple

import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.transforms.base import (
    Array,
    Count,
    Shapes,
    Transform,
    WireKeys,
    round_at_random,
    size,
    stateless,
)


class Int8Message(NamedTuple):
    """A message of int8.

    Attributes:
        codes: `[d]`, int8.
        scales: `[ceil(d/B)]`, the size of 1 in each block.
    """

    codes: Array
    scales: Array


@checked
def int8(shapes: Shapes, *, block: Count = 256) -> Transform:
    """Rounds the numbers of each block at random to multiples of its scale, from -127 to 127 times it.

    Formula: C(v)_i = s round(v_i / s), s = max |v_j| / 127 over the block, rounded down or up at random
    Bits: 8 d + 32 ceil(d/B), B = block
    Error: unbiased, omega = min(B, d) / (4 127²)

    Args:
        shapes: The shapes of the model's parameters.
        block: Number of coordinates of a block, B.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.
        OptionError: For a `block` below 1.

    References:
        Dettmers et al., ICLR 2022, "8-bit optimizers via block-wise quantization" (blocks)
        Gupta et al., ICML 2015, "Deep learning with limited numerical precision" (rounding at random)
    """
    d = size("int8", shapes)
    width = min(block, d)
    blocks = -(-d // width)

    def per_coordinate(scales: Array) -> Array:
        return jnp.repeat(scales, width, total_repeat_length=blocks * width)[:d]

    def encode(keys: WireKeys, vector: Array) -> Int8Message:
        padded = jnp.pad(vector, (0, blocks * width - d)).reshape(blocks, width)
        largest = jnp.max(jnp.abs(padded), axis=1)
        scales = largest / 127
        divisors = per_coordinate(jnp.where(scales == 0, 1, scales))
        rounded = round_at_random(keys.own, vector / divisors)
        # v / (max / 127) may be just above 127
        codes = jnp.clip(rounded, -127, 127)
        finite = jnp.all(jnp.isfinite(padded), axis=1)
        return Int8Message(
            jnp.where(per_coordinate(finite), codes, 0).astype(jnp.int8), jnp.where(finite, scales, jnp.nan)
        )

    def decode(keys: WireKeys, message: Int8Message) -> Array:
        return message.codes.astype(jnp.float32) * per_coordinate(message.scales)

    return stateless(encode, decode, 8 * d + 32 * blocks, unbiased=True, omega=width / (4 * 127**2))
