"""Differences (MARINA, Gorbunov et al. 2021): the change since the last vector is compressed, or all of it is sent."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from byzax.options import Nested, OptionError, checked
from byzax.simulator.transforms._chain import fixed_bits
from byzax.simulator.transforms.base import (
    Array,
    Message,
    Shapes,
    Share,
    State,
    Transform,
    WireKeys,
    nested,
    size,
    where_finite,
)


class DifferenceMessage(NamedTuple):
    """A message of difference.

    Attributes:
        is_whole: `[]`, whether the vector itself is sent, and not its change.
        vector: `[d]`, the vector; zeros where its change is sent.
        change: The message of the inner compressor; of no meaning where the vector is sent.
    """

    is_whole: Array
    vector: Array
    change: Message


class LastVector(NamedTuple):
    """The state of a sender of difference.

    Attributes:
        compressor: That of the compressor.
        vector: `[d]`, the last vector, before compression.
        started: Whether there was one.
    """

    compressor: State
    vector: Array
    started: Array


@checked
def difference(shapes: Shapes, *, inner: Nested = "random_k", probability: Share = 0.1) -> Transform:
    """Compresses the change since the sender's last vector; at random, for all senders at once, the vector is sent.

    Formula: g_t = v_t with probability p and at first, else g_(t-1) + C(v_t - v_(t-1)); the receiver's vector is g_t
    Bits: 1 + 32 d with probability p, else 1 + those of the inner compressor
    Error: unbiased; E|g_t - v_t|² is at most omega times the sum of |v_s - v_(s-1)|² since the vector was sent

    Errors add up until the vector is sent again. v_t and v_(t-1) are the sender's vectors of two messages, such as full
    gradients at two models, as in MARINA; Byz-VR-MARINA takes both gradients of a difference on the same batch. An
    estimate keeps its last finite number where the new one is not finite.

    Args:
        shapes: The shapes of the model's parameters.
        inner: The compressor C: a name, `"file.py:name"`, the function of a transform, or a mapping whose `name` is one
            of these and whose other keys are options. An unbiased one with a bound omega.
        probability: Probability p that the vector is sent.

    Returns:
        The transform.

    Raises:
        PartError: For an unknown compressor, and a model without parameters or with more than 125,000,000.
        OptionError: For a compressor that is not unbiased, or has no name, or a `probability` out of its range.

    References:
        Gorbunov et al., ICML 2021, "MARINA: Faster non-convex distributed learning with compression", algorithm 1
        Gorbunov et al., ICLR 2023, "Variance reduction is an antidote to Byzantines" (Byz-VR-MARINA)
    """
    d = size("difference", shapes)
    name, compressor = nested("inner", inner, shapes)
    if compressor.omega is None:
        raise OptionError("inner", f"must be an unbiased compressor, such as random_k, got {name}, which is none")

    def split(keys: WireKeys) -> tuple[Array, WireKeys]:
        coin, shared = jax.random.split(keys.shared)
        return coin, keys._replace(shared=shared)

    def encode(keys: WireKeys, vector: Array, last: LastVector) -> tuple[DifferenceMessage, LastVector]:
        coin, others = split(keys)
        is_whole = ~last.started | jax.random.bernoulli(coin, probability)
        change, own = compressor.encode(others, vector - last.vector, last.compressor)
        message = DifferenceMessage(is_whole, jnp.where(is_whole, vector, 0), change)
        return message, LastVector(own, where_finite(vector, last.vector), jnp.ones((), bool))

    def decode(keys: WireKeys, message: DifferenceMessage, estimate: Array) -> tuple[Array, Array]:
        change, _ = compressor.decode(split(keys)[1], message.change, compressor.init_receiver())
        vector = jnp.where(message.is_whole, message.vector, estimate + change)
        return vector, where_finite(vector, estimate)

    def bits(message: DifferenceMessage) -> Array:
        return 1 + jnp.where(message.is_whole, jnp.uint32(32 * d), compressor.bits(message.change))

    def zeros() -> Array:
        return jnp.zeros(d, jnp.float32)

    def init() -> LastVector:
        return LastVector(compressor.init(), zeros(), jnp.zeros((), bool))

    of_change = fixed_bits(compressor, d)
    mean_bits = None if of_change is None else 1 + probability * 32 * d + (1 - probability) * of_change
    return Transform(encode, decode, bits, init, zeros, unbiased=True, mean_bits=mean_bits)
