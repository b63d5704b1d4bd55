"""Vectors whose parts are messages of their own, each compressed by itself."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import jax
import jax.numpy as jnp

from byzax.simulator.transforms.base import Array, State, Transform, WireKeys


def in_parts(transforms: Sequence[Transform], sizes: Sequence[int]) -> Transform:
    """The transform of a vector that is sent in parts.

    Args:
        transforms: The transform of each part.
        sizes: The numbers in each, at least 1.

    Returns:
        The transform: of one part the transform itself. Its messages and states are tuples of those of the parts.
    """
    if len(transforms) == 1:
        return transforms[0]
    ends = list(accumulate(sizes))

    def encode(keys: WireKeys, vector: Array, state: State) -> tuple[Any, State]:
        parts = jnp.split(vector, ends[:-1])
        made = [
            each.encode(_keys_of(keys, i), part, own)
            for i, (each, part, own) in enumerate(zip(transforms, parts, state, strict=True))
        ]
        return tuple(message for message, _ in made), tuple(own for _, own in made)

    def decode(keys: WireKeys, message: Any, state: State) -> tuple[Array, State]:
        made = [
            each.decode(_keys_of(keys, i), part, own)
            for i, (each, part, own) in enumerate(zip(transforms, message, state, strict=True))
        ]
        return jnp.concatenate([part for part, _ in made]), tuple(own for _, own in made)

    def bits(message: Any) -> Array:
        return sum((each.bits(part) for each, part in zip(transforms, message, strict=True)), start=jnp.uint32(0))

    means = [each.mean_bits for each in transforms]
    return Transform(
        encode,
        decode,
        bits,
        lambda: tuple(each.init() for each in transforms),
        lambda: tuple(each.init_receiver() for each in transforms),
        mean_bits=None if None in means else sum(each for each in means if each is not None),
    )


def _keys_of(keys: WireKeys, part: int) -> WireKeys:
    return WireKeys(*(jax.random.fold_in(key, part) for key in keys))
