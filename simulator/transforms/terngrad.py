"""TernGrad (Wen et al. 2017): every coordinate as -1, 0 or 1 times the largest one."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.transforms.base import Array, Shapes, Transform, WireKeys, scale_of, size, stateless


class TerngradMessage(NamedTuple):
    """A message of terngrad.

    Attributes:
        scale: `[]`, the largest absolute value.
        signs: `[d]`, int8: -1, 0 or 1.
    """

    scale: Array
    signs: Array


@checked
def terngrad(shapes: Shapes) -> Transform:
    """Sends each coordinate as the largest absolute value with its sign, or as 0, at random.

    Formula: C(v)_i = m sign(v_i) b_i, m = max |v_j|, P(b_i = 1) = |v_i| / m
    Bits: 32 + 2 d
    Error: unbiased, omega = (sqrt(d) - 1) / 2

    The paper takes m of each layer, after gradients are cut at 2.5 standard deviations; neither is done here. omega is
    the largest value of m |v|_1 / |v|² - 1, that of the vector with one coordinate 1 + sqrt(d) times all others.

    Args:
        shapes: The shapes of the model's parameters.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.

    References:
        Wen et al., NeurIPS 2017, "TernGrad: Ternary gradients to reduce communication in distributed deep learning"
    """
    d = size("terngrad", shapes)

    def encode(keys: WireKeys, vector: Array) -> TerngradMessage:
        scale = scale_of(vector)
        chosen = jax.random.uniform(keys.own, (d,)) < jnp.abs(vector / scale)
        finite = jnp.all(jnp.isfinite(vector))
        signs = jnp.where(chosen & finite, jnp.sign(vector), 0).astype(jnp.int8)
        return TerngradMessage(jnp.where(finite, scale, jnp.nan), signs)

    def decode(keys: WireKeys, message: TerngradMessage) -> Array:
        return message.scale * message.signs.astype(jnp.float32)

    return stateless(encode, decode, 32 + 2 * d, unbiased=True, omega=(math.sqrt(d) - 1) / 2)
