"""EF21 (Richtarik et al. 2021): both ends keep an estimate of the sender's vector, and its change is compressed."""

from typing import NamedTuple

import jax.numpy as jnp

from byzax.options import Nested, OptionError, checked
from byzax.simulator.transforms.base import (
    Array,
    Message,
    Shapes,
    State,
    Transform,
    WireKeys,
    nested,
    size,
    where_finite,
)


class EstimateAtSender(NamedTuple):
    """The state of a sender of ef21.

    Attributes:
        compressor: That of the compressor.
        estimate: `[d]`, g: what the receiver makes of all messages so far.
    """

    compressor: State
    estimate: Array


@checked
def ef21(shapes: Shapes, *, inner: Nested = "top_k") -> Transform:
    """Compresses the difference between the vector and the receiver's estimate of it, which both ends keep.

    Formula: g_t = g_(t-1) + C(v_t - g_(t-1)), g_0 = 0; the receiver's vector is g_t
    Bits: those of the inner compressor
    Error: |g_t - v_t|² <= (1 - delta) |g_(t-1) - v_t|², delta that of the inner compressor

    An estimate keeps its last finite number where the new one is not finite.

    Args:
        shapes: The shapes of the model's parameters.
        inner: The compressor C: a name, `"file.py:name"`, the function of a transform, or a mapping whose `name` is one
            of these and whose other keys are options. A contractive one, without error feedback.

    Returns:
        The transform.

    Raises:
        PartError: For an unknown compressor, and a model without parameters or with more than 125,000,000.
        OptionError: For a compressor that is not contractive, or has no name.

    References:
        Richtarik, Sokolov and Fatkhullin, NeurIPS 2021, "EF21", algorithm 2
        Rammal et al., AISTATS 2024, "Communication compression for Byzantine robust learning" (Byz-EF21)
    """
    d = size("ef21", shapes)
    name, compressor = nested("inner", inner, shapes)
    if compressor.contraction is None:
        raise OptionError(
            "inner",
            f"must be a contractive compressor without error feedback, such as top_k, got {name}, which is none",
        )

    def encode(keys: WireKeys, vector: Array, state: EstimateAtSender) -> tuple[Message, EstimateAtSender]:
        message, own = compressor.encode(keys, vector - state.estimate, state.compressor)
        change, _ = compressor.decode(keys, message, compressor.init_receiver())
        return message, EstimateAtSender(own, where_finite(state.estimate + change, state.estimate))

    def decode(keys: WireKeys, message: Message, estimate: Array) -> tuple[Array, Array]:
        change, _ = compressor.decode(keys, message, compressor.init_receiver())
        vector = estimate + change
        return vector, where_finite(vector, estimate)

    def zeros() -> Array:
        return jnp.zeros(d, jnp.float32)

    return Transform(encode, decode, compressor.bits, lambda: EstimateAtSender(compressor.init(), zeros()), zeros)
