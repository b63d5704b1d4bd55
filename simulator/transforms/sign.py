"""Scaled signs (Karimireddy et al. 2019): the mean absolute value, and a sign for each coordinate."""

from typing import NamedTuple

import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.transforms._error_feedback import with_error_feedback
from byzax.simulator.transforms.base import Array, Shapes, Transform, WireKeys, scale_of, size, stateless


class SignMessage(NamedTuple):
    """A message of sign.

    Attributes:
        scale: `[]`, the mean absolute value.
        negative: `[d]`, whether each coordinate is below 0.
    """

    scale: Array
    negative: Array


@checked
def sign(shapes: Shapes, *, error_feedback: bool = False) -> Transform:
    """Sends every coordinate as plus or minus the mean absolute value; 0 counts as positive.

    Formula: C(v)_i = sign(v_i) |v|_1 / d
    Bits: 32 + d
    Error: contractive, delta = |v|_1² / (d |v|²), at least 1 / d

    Args:
        shapes: The shapes of the model's parameters.
        error_feedback: Whether what is left out is added to the next message, as the paper does.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.
        OptionError: For an `error_feedback` that is neither true nor false.

    References:
        Karimireddy et al., ICML 2019, "Error feedback fixes SignSGD and other gradient compression schemes", lemma 8
    """
    d = size("sign", shapes)

    def encode(keys: WireKeys, vector: Array) -> SignMessage:
        scale = scale_of(vector)
        return SignMessage(scale * jnp.mean(jnp.abs(vector / scale)), vector < 0)

    def decode(keys: WireKeys, message: SignMessage) -> Array:
        return jnp.where(message.negative, -message.scale, message.scale)

    return with_error_feedback(stateless(encode, decode, 32 + d, contraction=1 / d), d, error_feedback)
