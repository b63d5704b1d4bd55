"""Shared mask: coordinates drawn for each update, the same for all senders."""

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


@checked
def shared_mask(shapes: Shapes, *, share: Share = 0.01) -> Transform:
    """Sends k coordinates, drawn anew for each update and the same for all senders, so that rows can be compared.

    Formula: C(v)_i = (d/k) v_i for the k coordinates that are drawn, else 0; k = share d, rounded, at least 1
    Bits: 32 k
    Error: unbiased, omega = d/k - 1

    The coordinates are the first k of a permutation of all, `jax.random.permutation` of the key that all share. A
    receiver has this key already, so that a Byzantine sender cannot choose others.

    Args:
        shapes: The shapes of the model's parameters.
        share: Share of the coordinates that is sent.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.
        OptionError: For a `share` out of its range.

    References:
        Gupta et al., AISTATS 2026, arXiv 2508.17129 (RoSDHB: one mask for all workers, with momentum at the server)
    """
    d = size("shared_mask", shapes)
    k = count_of_share(share, d)

    def places(keys: WireKeys) -> Array:
        return jax.random.permutation(keys.shared, d)[:k]

    def decode(keys: WireKeys, values: Array) -> Array:
        return jnp.zeros(d, jnp.float32).at[places(keys)].set(values * (d / k))

    return stateless(
        encode=lambda keys, vector: vector[places(keys)],
        decode=decode,
        bits=32 * k,
        unbiased=True,
        omega=d / k - 1,
    )
