"""Threshold: the coordinates that are above a fixed absolute value."""

import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.transforms._error_feedback import with_error_feedback
from byzax.simulator.transforms.base import (
    Array,
    Positive,
    Shapes,
    Transform,
    WireKeys,
    size,
    sparse_bits,
    stateless,
)


@checked
def threshold(shapes: Shapes, *, above: Positive = 0.01, error_feedback: bool = False) -> Transform:
    """Sends the coordinates whose absolute value is above a threshold, with their places; the others are 0.

    Formula: C(v)_i = v_i where |v_i| > t, else 0; t = above
    Bits: ceil(log2(d + 1)) for their number k, and k (32 + ceil(log2 d)), or 32 k + d with a bitmap, or 32 d, whichever
        is least
    Error: |C(v) - v|² <= d t²; not contractive, since a vector of small numbers is not sent at all

    Args:
        shapes: The shapes of the model's parameters.
        above: The threshold t, in units of the row.
        error_feedback: Whether what is left out is added to the next message.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.
        OptionError: For an option out of its range.

    References:
        Sahu et al., NeurIPS 2021, "Rethinking gradient sparsification as total error minimization"
        Strom, Interspeech 2015, "Scalable distributed DNN training using commodity GPU cloud computing"
    """
    d = size("threshold", shapes)

    def encode(keys: WireKeys, vector: Array) -> Array:
        # NaN is sent
        return jnp.where(jnp.abs(vector) <= above, 0, vector)

    def bits(values: Array) -> Array:
        return d.bit_length() + sparse_bits(jnp.sum(values != 0, dtype=jnp.uint32), d)

    return with_error_feedback(stateless(encode, lambda keys, values: values, bits), d, error_feedback)
