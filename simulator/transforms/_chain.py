"""Lists of transforms: each compresses the numbers that the one before it sends."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from byzax.options import PartError
from byzax.simulator.transforms.base import Array, Message, Shapes, State, Transform, WireKeys, size


class ChainedMessage(NamedTuple):
    """A message of a list of two transforms.

    Attributes:
        others: The arrays of the first one's message that hold no float32 numbers.
        numbers: The message that the second one makes of its float32 numbers.
    """

    others: tuple[Array, ...]
    numbers: Message


def chained(transforms: Sequence[tuple[str, Callable[[Shapes], Transform]]], shapes: Shapes) -> Transform:
    """The transform of a list.

    Args:
        transforms: For each its name, for messages, and what builds it for the shapes of the numbers that it gets.
        shapes: The shapes of the model's parameters.

    Returns:
        The transform: of one the transform itself. In a longer list it has the state of the first one.

    Raises:
        PartError: Where a transform cannot stand before or behind another one.
    """
    (name, build), *later = transforms
    made = build(shapes)
    for other, build_other in later:
        made = _compose(name, made, other, build_other, size(name, shapes))
        name = other
    return made


def _compose(name: str, first: Transform, other: str, build: Callable[[Shapes], Transform], d: int) -> Transform:
    message = message_of(first, d)
    leaves, structure = jax.tree.flatten(message)
    is_number = [leaf.dtype == jnp.float32 for leaf in leaves]
    numbers = [leaf for leaf, number in zip(leaves, is_number, strict=True) if number]
    count, bits = sum(leaf.size for leaf in numbers), fixed_bits(first, d)
    if not count:
        raise PartError(f"{other} behind {name}: {name} sends no float32 numbers that it could compress: leave it out")
    if bits is None or bits < 32 * count:
        raise PartError(
            f"{other} behind {name}: the number of float32 numbers that {name} sends varies: take {other} alone, or "
            "top_k or random_k before it"
        )
    if jax.tree.leaves(jax.eval_shape(first.init_receiver)):
        raise PartError(
            f"{other} behind {name}: both ends of {name} must know what arrives, and {other} would change it: take one "
            "of the two"
        )
    second = build(tuple(leaf.shape for leaf in numbers))
    if jax.tree.leaves(jax.eval_shape(lambda: (second.init(), second.init_receiver()))):
        raise PartError(
            f"{other} behind {name}: it remembers places of a vector, and numbers of {name} change theirs: leave its "
            "error_feedback out, or put it first"
        )
    rest = bits - 32 * count

    def keys_of_second(keys: WireKeys) -> WireKeys:
        return WireKeys(*(jax.random.fold_in(key, 1) for key in keys))

    def encode(keys: WireKeys, vector: Array, state: State) -> tuple[ChainedMessage, State]:
        message, state = first.encode(keys, vector, state)
        found = jax.tree.leaves(message)
        flat = jnp.concatenate([leaf.ravel() for leaf, number in zip(found, is_number, strict=True) if number])
        of_numbers, _ = second.encode(keys_of_second(keys), flat, second.init())
        others = tuple(leaf for leaf, number in zip(found, is_number, strict=True) if not number)
        return ChainedMessage(others, of_numbers), state

    def decode(keys: WireKeys, message: ChainedMessage, state: State) -> tuple[Array, State]:
        flat, _ = second.decode(keys_of_second(keys), message.numbers, second.init_receiver())
        begin, others, found = 0, list(message.others), []
        for leaf, number in zip(leaves, is_number, strict=True):
            if number:
                found.append(flat[begin : begin + leaf.size].reshape(leaf.shape))
                begin += leaf.size
            else:
                found.append(others.pop(0))
        return first.decode(keys, jax.tree.unflatten(structure, found), state)

    return Transform(
        encode,
        decode,
        lambda message: rest + second.bits(message.numbers),
        first.init,
        unbiased=first.unbiased and second.unbiased,
    )


def message_of(transform: Transform, d: int) -> Any:
    """The shapes and types of a transform's messages.

    Args:
        transform: The transform.
        d: Number of parameters.

    Returns:
        A message of `jax.ShapeDtypeStruct`.
    """

    def encode(vector: Array) -> Message:
        keys = WireKeys(jax.random.key(0), jax.random.key(0))
        return transform.encode(keys, vector, transform.init())[0]

    return jax.eval_shape(encode, jax.ShapeDtypeStruct((d,), jnp.float32))


def fixed_bits(transform: Transform, d: int) -> int | None:
    """The bits of a message of a transform.

    Args:
        transform: The transform.
        d: Number of parameters.

    Returns:
        Their number; None where it depends on the message.
    """
    message = message_of(transform, d)
    traced = jax.make_jaxpr(lambda message: jnp.asarray(transform.bits(message)))(message).jaxpr
    varying = {*traced.invars}
    for equation in traced.eqns:
        # literals have no hash
        if any(not hasattr(each, "val") and each in varying for each in equation.invars):
            varying |= {*equation.outvars}
    if any(not hasattr(each, "val") and each in varying for each in traced.outvars):
        return None
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), message)
    return int(transform.bits(zeros))
