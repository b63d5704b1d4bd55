"""The type of a transform, and what the files of this folder share: ranges of options, counts of bits, rounding."""

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from pydantic import Field

from byzax.members import find, place_of, reference_of
from byzax.options import Nested, OptionError, PartError, checked_fields

Array = jax.Array
State = Any
# Any pytree of arrays.
Message = Any
Shapes = tuple[tuple[int, ...], ...]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

# bits of a message are uint32: no transform needs more than 33 for each parameter and a hundred besides
LARGEST_D = 125_000_000


class WireKeys(NamedTuple):
    """The keys of one message, the same at both ends.

    Attributes:
        own: Key of this message alone.
        shared: Key that all senders of the same update share.
    """

    own: Array
    shared: Array


class WireInit(Protocol):
    """The state of an end of the wire before the first message.

    Returns:
        A pytree; `()` for none.
    """

    def __call__(self) -> State: ...


class Encode(Protocol):
    """Turns a vector into a message.

    Args:
        keys: The keys of the message.
        vector: `[d]`, float32.
        state: That of `init`, or of the sender's last message.

    Returns:
        The message, a pytree of arrays of fixed shapes, and the sender's new state.
    """

    def __call__(self, keys: WireKeys, vector: Array, state: State, /) -> tuple[Message, State]: ...


class Decode(Protocol):
    """Turns a message into a vector. Any message of the right shapes gives one: a Byzantine sender may send it.

    Args:
        keys: The keys of the message.
        message: That of `encode`, or any other of the same shapes and types.
        state: That of `init_receiver`, or after the last message of the same sender.

    Returns:
        The vector `[d]`, float32, and the receiver's new state for this sender.
    """

    def __call__(self, keys: WireKeys, message: Message, state: State, /) -> tuple[Array, State]: ...


class CountBits(Protocol):
    """The size of a message.

    Args:
        message: That of `encode`.

    Returns:
        The number of bits `[]`, uint32, of an encoding that a receiver can decode.
    """

    def __call__(self, message: Message, /) -> Array: ...


def no_state() -> State:
    """`init` and `init_receiver` of a transform without a state there."""
    return ()


class Transform(NamedTuple):
    """A transform of messages on their way, as pure functions.

    C(v) is what a receiver makes of the vector v.

    Attributes:
        encode: Turns a vector into a message, at the sender.
        decode: Turns a message into a vector, at the receiver.
        bits: The size of a message.
        init: The state of a sender before its first message.
        init_receiver: The state of a receiver, for one sender, before that sender's first message.
        unbiased: Whether the mean of C(v) over what is drawn is v, for any v.
        omega: The least known number with E|C(v) - v|² <= omega |v|² for all v, of an unbiased compressor whose
            receiver keeps no state; None where there is none.
        contraction: A number above 0 with E|C(v) - v|² <= (1 - contraction) |v|² for all v, of a contractive compressor
            whose receiver keeps no state; None where there is none.
        mean_bits: The mean size of a message over what is drawn, but for the first of a sender, where it depends on no
            vector. None: the size is fixed, or depends on the vector.
    """

    encode: Encode
    decode: Decode
    bits: CountBits
    init: WireInit = no_state
    init_receiver: WireInit = no_state
    unbiased: bool = False
    omega: Annotated[float, Field(ge=0)] | None = None
    contraction: Annotated[float, Field(gt=0, le=1)] | None = None
    mean_bits: Annotated[float, Field(gt=0)] | None = None


def stateless(
    encode: Callable[[WireKeys, Array], Message],
    decode: Callable[[WireKeys, Message], Array],
    bits: int | Callable[[Message], Array],
    *,
    unbiased: bool = False,
    omega: float | None = None,
    contraction: float | None = None,
) -> Transform:
    """Makes a transform without states.

    Args:
        encode: As in `Transform`, without states.
        decode: Likewise.
        bits: The number of bits of any message, or a function that counts those of one, whole numbers of any type.
        unbiased: As in `Transform`.
        omega: Likewise.
        contraction: Likewise.

    Returns:
        The transform.
    """

    def count(message: Message) -> Array:
        return jnp.asarray(bits(message) if callable(bits) else bits, jnp.uint32)

    return Transform(
        encode=lambda keys, vector, state: (encode(keys, vector), state),
        decode=lambda keys, message, state: (decode(keys, message), state),
        bits=count,
        unbiased=unbiased,
        omega=omega,
        contraction=contraction,
    )


def size(transform: str, shapes: Shapes) -> int:
    """The number of parameters of a model.

    Args:
        transform: Name of the transform, for the message.
        shapes: The shapes of the parameters.

    Returns:
        The sum of their products, d.

    Raises:
        PartError: Unless it is from 1 to 125,000,000.
    """
    d = sum(math.prod(shape) for shape in shapes)
    if not 1 <= d <= LARGEST_D:
        raise PartError(f"{transform} needs a model of 1 to {LARGEST_D:,} parameters, got d={d:,}")
    return d


def nested(option: str, other: Nested, shapes: Shapes) -> tuple[str, Transform]:
    """The transform that is an option of another one.

    Args:
        option: Name of the option, for messages.
        other: Its value: a name, `"file.py:name"`, a function, or a mapping of `name` and options.
        shapes: The shapes of the model's parameters.

    Returns:
        The name of the transform, for messages, and the transform.

    Raises:
        OptionError: For a mapping without a name.
        PartError: For an unknown transform, or a function that gives none.
    """
    chosen = dict(other) if isinstance(other, Mapping) else {"name": other}
    reference = chosen.pop("name", None)
    if reference is None:
        raise OptionError(option, f"must have a name, such as {option}={{'name': 'top_k'}}, got {other!r}")
    function = find("transform", reference)
    made = function(shapes, **chosen)
    if not isinstance(made, Transform):
        raise PartError(f"{option} must give a Transform, got {type(made).__name__}{place_of(function)}")
    return reference_of(function).rpartition(":")[2].strip("<>"), checked_fields(made)


def count_of_share(share: float, d: int) -> int:
    """The number of coordinates k that a share of d is: the nearest whole number, at least 1."""
    return max(1, round(share * d))


def sparse_bits(count: Any, d: int) -> Any:
    """The bits of `count` coordinates out of d: of their values, and of their places in the shortest of three ways.

    Args:
        count: Number of coordinates, known to the receiver; a number or a scalar of uint32.
        d: Number of parameters.

    Returns:
        32 for each value, and ceil(log2 d) for each place, or d for a bitmap; or 32 d for all values without places.
    """
    places = count * (d - 1).bit_length()
    if isinstance(count, int):
        return min(32 * count + min(places, d), 32 * d)
    return jnp.minimum(32 * count + jnp.minimum(places, d), jnp.uint32(32 * d))


def scale_of(vector: Array) -> Array:
    """The largest absolute value `[]`, by which a vector is divided before it is squared or summed; 1 for zeros."""
    largest = jnp.max(jnp.abs(vector))
    return jnp.where(largest == 0, 1, largest)


def cast(vector: Array, dtype: Any) -> Array:
    """A vector in another type. Without the barrier XLA may leave out a rounding that the same program undoes."""
    return lax.optimization_barrier(vector.astype(dtype))


def round_at_random(key: Array, values: Array) -> Array:
    """Rounds numbers down or up at random, so that the mean of each is the number."""
    below = jnp.floor(values)
    return below + (jax.random.uniform(key, values.shape) < values - below)


def where_finite(new: Array, old: Array) -> Array:
    """New numbers of a memory, and the old ones where the new ones are not finite, which a memory would never lose."""
    return jnp.where(jnp.isfinite(new), new, old)
