"""Natural compression (Horvath et al. 2022): every number as a power of two, rounded at random."""

import jax
import jax.numpy as jnp
from jax import lax

from byzax.options import checked
from byzax.simulator.transforms.base import Array, Shapes, Transform, WireKeys, size, stateless

# of a float32: 23 bits of the mantissa, 8 of the exponent; the largest exponent is that of infinity and NaN
MANTISSA, INFINITE = 23, 255


@checked
def natural(shapes: Shapes) -> Transform:
    """Rounds every number at random to the power of two below or above it: sign and exponent of a float32.

    Numbers above 2^127 are rounded down.

    Formula: C(v)_i = sign(v_i) 2^a or sign(v_i) 2^(a+1), 2^a <= |v_i| < 2^(a+1), the latter with probability
        |v_i| / 2^a - 1
    Bits: 9 d
    Error: unbiased, omega = 1 / 8 (normal numbers up to 2^127)

    Args:
        shapes: The shapes of the model's parameters.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.

    References:
        Horvath et al., MSML 2022, "Natural compression for distributed deep learning", definition 1, theorem 1
    """
    d = size("natural", shapes)

    def encode(keys: WireKeys, vector: Array) -> Array:
        pattern = lax.bitcast_convert_type(vector, jnp.uint32)
        exponent = (pattern >> MANTISSA) & INFINITE
        mantissa = pattern & (2**MANTISSA - 1)
        up = jax.random.bits(keys.own, (d,)) >> (32 - MANTISSA) < mantissa
        rounded = jnp.where(exponent == INFINITE, INFINITE, jnp.minimum(exponent + up, INFINITE - 1))
        return (((pattern >> 31) << 8) | rounded).astype(jnp.uint16)

    def decode(keys: WireKeys, codes: Array) -> Array:
        # a code has 9 bits; the sign comes to lie at the highest
        return lax.bitcast_convert_type((codes & 0x1FF).astype(jnp.uint32) << MANTISSA, jnp.float32)

    return stateless(encode, decode, 9 * d, unbiased=True, omega=1 / 8)
