"""The wire of a run: the compressors of its messages, and the bits that these take."""

from functools import partial

import jax
import jax.numpy as jnp

from byzax.simulator.compilation import compiled_once
from byzax.simulator.config.part import Part
from byzax.simulator.config.run import Run
from byzax.simulator.contracts import build
from byzax.simulator.durations import WAYS, MessageBits, Way
from byzax.simulator.parts import message_bits, parameter_shapes
from byzax.simulator.transforms import Shapes, Transform, WireKeys
from byzax.simulator.transforms._chain import chained, fixed_bits

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
    parts = getattr(run.wire, way)
    return _built(parts, parameter_shapes(run)) if parts else None


@compiled_once
def _built(parts: tuple[Part, ...], shapes: Shapes) -> Transform:
    return chained([(part.label, partial(build, part)) for part in parts], shapes)


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
