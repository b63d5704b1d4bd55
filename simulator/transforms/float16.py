"""Half precision: every number as a float16 of IEEE 754."""

import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.transforms._error_feedback import with_error_feedback
from byzax.simulator.transforms.base import Shapes, Transform, cast, size, stateless


@checked
def float16(shapes: Shapes, *, error_feedback: bool = False) -> Transform:
    """Rounds every number to the nearest float16: 11 significant bits, sizes from 6e-8 to 65,504.

    Numbers from 65,520 on become infinite, and those below 3e-8 zero: scale small gradients, or take bfloat16.

    Formula: C(v)_i = v_i rounded to float16
    Bits: 16 d
    Error: at most 2^-11 |v_i| for |v_i| from 6.2e-5 to 65,504, at most 2^-25 below

    Args:
        shapes: The shapes of the model's parameters.
        error_feedback: Whether what is left out is added to the next message.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.
        OptionError: For an `error_feedback` that is neither true nor false.

    References:
        IEEE 754-2008, binary16
    """
    d = size("float16", shapes)
    made = stateless(
        encode=lambda keys, vector: cast(vector, jnp.float16),
        decode=lambda keys, values: values.astype(jnp.float32),
        bits=16 * d,
    )
    return with_error_feedback(made, d, error_feedback)
