"""Top-k: the coordinates that are largest by absolute value."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from byzax.options import checked
from byzax.simulator.transforms._error_feedback import with_error_feedback
from byzax.simulator.transforms.base import (
    Array,
    Shapes,
    Share,
    Transform,
    WireKeys,
    count_of_share,
    size,
    sparse_bits,
    stateless,
)


class TopKMessage(NamedTuple):
    """A message of top_k.

    Attributes:
        places: `[k]`, int32, the coordinates.
        values: `[k]`, their values.
    """

    places: Array
    values: Array


@checked
def top_k(shapes: Shapes, *, share: Share = 0.01, error_feedback: bool = False) -> Transform:
    """Sends the k coordinates that are largest by absolute value, with their places; the others are 0.

    Formula: C(v)_i = v_i for the k largest |v_i|, else 0; k = share d, rounded, at least 1
    Bits: k (32 + ceil(log2 d)), or 32 k + d with a bitmap, or 32 d, whichever is least
    Error: contractive, delta = k / d

    Of equal values the lowest places are sent. A receiver leaves out places that do not exist, and adds the values of
    one that comes twice.

    Args:
        shapes: The shapes of the model's parameters.
        share: Share of the coordinates that is sent.
        error_feedback: Whether what is left out is added to the next message.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.
        OptionError: For an option out of its range.

    References:
        Stich, Cordonnier and Jaggi, NeurIPS 2018, "Sparsified SGD with memory", definition 2.1 and lemma A.1
        Aji and Heafield, EMNLP 2017, "Sparse communication for distributed gradient descent"
    """
    d = size("top_k", shapes)
    k = count_of_share(share, d)

    def encode(keys: WireKeys, vector: Array) -> TopKMessage:
        _, places = lax.top_k(jnp.abs(vector), k)
        return TopKMessage(places, vector[places])

    def decode(keys: WireKeys, message: TopKMessage) -> Array:
        # JAX takes negative places for places from the end
        places = jnp.where(message.places < 0, d, message.places)
        return jnp.zeros(d, jnp.float32).at[places].add(message.values, mode="drop")

    made = stateless(encode, decode, sparse_bits(k, d), contraction=k / d)
    return with_error_feedback(made, d, error_feedback)
