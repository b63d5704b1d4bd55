"""Random-k: coordinates drawn for each message."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.transforms.base import (
    Array,
    Shapes,
    Share,
    Transform,
    WireKeys,
    count_of_share,
    size,
    stateless,
)


class RandomKMessage(NamedTuple):
    """A message of random_k.

    Attributes:
        seed: `[]`, uint32, from which both ends draw the places.
        values: `[k]`, the values there.
    """

    seed: Array
    values: Array


@checked
def random_k(shapes: Shapes, *, share: Share = 0.01) -> Transform:
    """Sends k coordinates, drawn anew by each sender for each message; the receiver draws the same from a seed.

    Formula: C(v)_i = (d/k) v_i for the k coordinates that are drawn, else 0; k = share d, rounded, at least 1
    Bits: 32 k + 32
    Error: unbiased, omega = d/k - 1

    The coordinates are the first k of a permutation of all, `jax.random.permutation` of the key of the seed.

    Args:
        shapes: The shapes of the model's parameters.
        share: Share of the coordinates that is sent.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.
        OptionError: For a `share` out of its range.

    References:
        Konecny et al. 2016, "Federated learning: Strategies for improving communication efficiency" (random mask)
        Stich, Cordonnier and Jaggi, NeurIPS 2018, "Sparsified SGD with memory", definition 2.1, without the factor d/k
    """
    d = size("random_k", shapes)
    k = count_of_share(share, d)

    def places(seed: Array) -> Array:
        return jax.random.permutation(jax.random.key(seed), d)[:k]

    def encode(keys: WireKeys, vector: Array) -> RandomKMessage:
        seed = jax.random.bits(keys.own)
        return RandomKMessage(seed, vector[places(seed)])

    def decode(keys: WireKeys, message: RandomKMessage) -> Array:
        return jnp.zeros(d, jnp.float32).at[places(message.seed)].set(message.values * (d / k))

    return stateless(encode, decode, 32 * k + 32, unbiased=True, omega=d / k - 1)
