"""Error feedback (Seide et al. 2014): what a compressor leaves out is sent later."""

from typing import NamedTuple

import jax.numpy as jnp

from byzax.simulator.transforms.base import Array, Message, State, Transform, WireKeys, where_finite


class ErrorMemory(NamedTuple):
    """The state of a sender with error feedback.

    Attributes:
        compressor: That of the compressor.
        error: `[d]`, the sum of what was left out so far.
    """

    compressor: State
    error: Array


def with_error_feedback(compressor: Transform, d: int, error_feedback: bool) -> Transform:
    """Adds to every vector what the compressor left out of those before: p = v + e, C(p) is sent, e = p - C(p).

    So the messages of a sender sum to its vectors, but for the last e. The memory stays as it is at coordinates where
    the new error is not finite.

    Args:
        compressor: The compressor, without a state at the receiver.
        d: Number of parameters.
        error_feedback: Whether to add it; False gives the compressor itself.

    Returns:
        The transform.

    References:
        Seide et al., Interspeech 2014, "1-bit stochastic gradient descent and its application to data-parallel
          distributed training of speech DNNs"
        Karimireddy et al., ICML 2019, "Error feedback fixes SignSGD and other gradient compression schemes"
    """
    if not error_feedback:
        return compressor

    def encode(keys: WireKeys, vector: Array, memory: ErrorMemory) -> tuple[Message, ErrorMemory]:
        whole = vector + memory.error
        message, state = compressor.encode(keys, whole, memory.compressor)
        received, _ = compressor.decode(keys, message, compressor.init_receiver())
        return message, ErrorMemory(state, where_finite(whole - received, memory.error))

    def init() -> ErrorMemory:
        return ErrorMemory(compressor.init(), jnp.zeros(d, jnp.float32))

    return compressor._replace(init=init, encode=encode, contraction=None)
