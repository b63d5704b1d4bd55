"""The upper half of a float32: every number as a bfloat16."""

import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.transforms._error_feedback import with_error_feedback
from byzax.simulator.transforms.base import Shapes, Transform, cast, size, stateless


@checked
def bfloat16(shapes: Shapes, *, error_feedback: bool = False) -> Transform:
    """Rounds every number to the nearest bfloat16: 8 significant bits, and the range of a float32.

    Numbers from 3.396e38 on become infinite.

    Formula: C(v)_i = v_i rounded to bfloat16
    Bits: 16 d
    Error: contractive, |C(v) - v|² <= 2^-16 |v|² (normal numbers below 3.39e38)

    Args:
        shapes: The shapes of the model's parameters.
        error_feedback: Whether what is left out is added to the next message.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.
        OptionError: For an `error_feedback` that is neither true nor false.

    References:
        Kalamkar et al. 2019, "A study of BFLOAT16 for deep learning training"
    """
    d = size("bfloat16", shapes)
    made = stateless(
        encode=lambda keys, vector: cast(vector, jnp.bfloat16),
        decode=lambda keys, values: values.astype(jnp.float32),
        bits=16 * d,
        contraction=1 - 2.0**-16,
    )
    return with_error_feedback(made, d, error_feedback)
