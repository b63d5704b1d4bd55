"""The wire of a run: the compressors of its messages, and the bits that these take."""

from functools import partial

import jax
import jax.numpy as jnp

from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.part import Part
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import build
from byzax.simulator.durations import WAYS, MessageBits, Way
from byzax.simulator.parts import message_bits, parameter_shapes, topology
from byzax.simulator.transforms import Shapes, Transform, WireKeys
from byzax.simulator.transforms._chain import chained, fixed_bits
from byzax.simulator.transforms._parts import in_parts

# Messages of a sender whose mean size is the typical one.
TYPICAL = 32


def transform_of(run: Run, way: Way) -> Transform | None:
    """The transform of the messages of one direction.

    Args:
        run: The run.
        way: The direction.

    Returns:
        The transform, the same for runs that compress alike; None where messages are sent as they are.

    Raises:
        ValueError: Where a part cannot be built, or cannot stand in a list with the others.
    """
    sizes = [size for size in part_sizes(run) if size]
    if not sizes or not getattr(run.wire, way):
        return transform_at(run, way, parameter_shapes(run))
    made = (transform_at(run, way, ((size,),)) for size in sizes)
    return _in_parts(tuple(each for each in made if each is not None), tuple(sizes))


def transform_at(run: Run, way: Way, shapes: Shapes) -> Transform | None:
    """The transform of the messages of one direction, of other shapes than those of the model.

    Args:
        run: The run.
        way: The direction.
        shapes: The shapes.

    Returns:
        As `transform_of`.

    Raises:
        ValueError: As `transform_of`.
    """
    parts = getattr(run.wire, way)
    return _built(parts, shapes) if parts else None


_in_parts = compiled_once(in_parts)


@compiled_once
def _built(parts: tuple[Part, ...], shapes: Shapes) -> Transform:
    return chained([(part.label, partial(build, part)) for part in parts], shapes)


def part_sizes(run: Run) -> tuple[int, ...]:
    """The numbers in the parts of a row or model, each a message of its own; none where it is one message."""
    parts = topology(run).parts
    return () if parts is None else parts(message_bits(run) // 32)


def part_shares(run: Run, way: Way) -> tuple[float, ...]:
    """The shares that the parts of a row or model have in its bits on the wire.

    Args:
        run: The run.
        way: The direction.

    Returns:
        The share of each part; where the size of their messages varies that in the numbers.
    """
    sizes = part_sizes(run)
    made = [transform_at(run, way, ((size,),)) if size else None for size in sizes]
    bits = [0 if each is None else fixed_bits(each, size) for each, size in zip(made, sizes, strict=True)]
    plain = all(each is None for each in made) or None in bits
    counts = sizes if plain else [each or 0 for each in bits]
    return tuple(each / sum(counts) for each in counts)


def wire_bits(run: Run) -> MessageBits:
    """The bits of a message of each direction, by which the virtual clock goes.

    Args:
        run: The run.

    Returns:
        32 for each parameter where messages are sent as they are, or those of `masks` for a row; of a compressor whose
        messages vary in size those of a typical message.
    """
    whole = message_bits(run)
    transforms = (transform_of(run, way) for way in WAYS)
    bits = MessageBits(*(whole if each is None else message_size(each, whole // 32) for each in transforms))
    return bits if run.masks is None else bits._replace(up=whole // 32 * run.masks.bits)


def varies(run: Run, way: Way) -> bool:
    """Tells whether the messages of a direction vary in size.

    Args:
        run: The run.
        way: The direction.
    """
    transform = transform_of(run, way)
    return transform is not None and fixed_bits(transform, message_bits(run) // 32) is None


@compiled_once
def message_size(transform: Transform, d: int) -> float:
    """The bits of a message.

    Args:
        transform: The transform.
        d: Number of parameters.

    Returns:
        Their number; where it varies, the mean that the transform declares, or else that of the first messages of a
        sender, but for the very first, for vectors of independent normal numbers with a mean squared length of 1.
    """
    if transform.mean_bits is not None:
        return transform.mean_bits
    fixed = fixed_bits(transform, d)
    if fixed is not None:
        return fixed

    def one(state: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
        keys = WireKeys(*(jax.random.fold_in(jax.random.key(0), 3 * number + i) for i in range(2)))
        vector = jax.random.normal(jax.random.fold_in(jax.random.key(0), 3 * number + 2), (d,)) / jnp.sqrt(d)
        message, state = transform.encode(keys, vector, state)
        return state, transform.bits(message)

    _, bits = jax.lax.scan(one, transform.init(), jnp.arange(TYPICAL + 1))
    return sum(map(float, bits[1:])) / TYPICAL
