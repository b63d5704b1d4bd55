"""Traces of functions of parts, which find what cannot be computed without making an array."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.attacks import Batch
from byzax.options import PartError
from byzax.simulator.config.part import Part
from byzax.simulator.contracts import ContractError, failure, location, require, type_name


class BatchSpec(NamedTuple):
    """The shapes and types of a batch, by which parts are traced.

    Attributes:
        shape: Shape of a sample.
        x: Type of the samples.
        y: Type of the labels or values.
        classes: Number of labels; None for values.
        batch_size: Samples of the batch.
    """

    shape: tuple[int, ...]
    x: np.dtype[Any]
    y: np.dtype[Any]
    classes: int | None
    batch_size: int


@contextmanager
def tracing(part: Part, what: str) -> Iterator[None]:
    """Turns errors from inside, other than messages of a part, into a ContractError with the part and the line.

    Args:
        part: The part.
        what: The function that is called, for the message.

    Raises:
        ContractError: For an error that is no message of the part itself, or about it.
    """
    try:
        yield
    except (PartError, ContractError):
        raise
    except Exception as error:
        raise ContractError(f"{part.label}: {what} fails: {failure(error, part)}") from error


def require_given(fits: bool, part: Part, name: str, wanted: str, given: Any, function: Any) -> None:
    """Raises ContractError, with the line of the function, unless it has given what it must.

    Args:
        fits: Whether it has.
        part: The part.
        name: The name of the function among those of the part; empty where the part has one.
        wanted: The value that it must give, in words.
        given: The value that it gave, traced or not.
        function: The function.
    """
    who = f"{part.label}: {name}" if name else part.label
    require(fits, f"{who} must give {wanted}, got {type_name(given)}{location(part, function)}")


def require_same_state(part: Part, name: str, before: Any, after: Any, function: Any) -> None:
    """Raises ContractError unless a state keeps its structure, shapes and types: a compiled loop carries it.

    Args:
        part: The part.
        name: The name of the function among those of the part.
        before: The state before.
        after: The state that the function gave.
        function: The function.
    """
    require(
        type_name(before) == type_name(after),
        f"{part.label}: {name} changes its state from {type_name(before)} to {type_name(after)}"
        f"{location(part, function)}",
    )


def declared_functions(part: Part, where: str, functions: Mapping[str, Any], needs: frozenset[str]) -> dict[str, Any]:
    """Functions that a part may call, of which those that it does not declare refuse.

    Args:
        part: The part.
        where: The value that the functions belong to, for the message.
        functions: All of them, by name.
        needs: The names that the part declares.

    Returns:
        The functions by name.
    """

    def undeclared(name: str) -> Callable[..., Any]:
        def refuse(*_: Any) -> Any:
            raise PartError(f'{part.label} calls {name} of its {where}: declare needs={{"{name}"}}')

        return refuse

    return {name: function if name in needs else undeclared(name) for name, function in functions.items()}


def key_spec() -> Any:
    """A key, traced."""
    return jax.eval_shape(lambda: jax.random.key(0))


def batch_spec(samples: BatchSpec) -> Any:
    """A `Batch`, traced.

    Args:
        samples: Its shapes and types.

    Returns:
        The batch.
    """
    shapes = [((samples.batch_size, *samples.shape), samples.x), ((samples.batch_size,), samples.y)]
    x, y = (jax.ShapeDtypeStruct(*each) for each in shapes)
    classes = None if samples.classes is None else jax.ShapeDtypeStruct((), jnp.int32)
    return Batch(x, y, classes)  # pyright: ignore[reportArgumentType]


def is_array(value: Any, shape: tuple[int | None, ...], kind: Any = jnp.floating) -> bool:
    """Tells whether a traced value is one array of a shape and kind of numbers.

    Args:
        value: The value.
        shape: The shape; None in it stands for any size.
        kind: The kind of numbers; None for any.

    Returns:
        True where it is.
    """
    if not isinstance(value, (jax.ShapeDtypeStruct, jax.Array)) or len(value.shape) != len(shape):
        return False
    fits = kind is None or jnp.issubdtype(value.dtype, kind)
    return fits and all(w in (None, s) for w, s in zip(shape, value.shape, strict=True))


def is_like(value: Any, wanted: Any) -> bool:
    """Tells whether a traced value has the shape of another, and holds whole numbers where that does.

    Args:
        value: The value.
        wanted: The other.

    Returns:
        True where it does.
    """
    return is_array(value, wanted.shape, jnp.integer if jnp.issubdtype(wanted.dtype, jnp.integer) else jnp.floating)


def is_tuple(value: Any, count: int) -> bool:
    """Tells whether a value is a tuple of `count` values."""
    return isinstance(value, tuple) and len(value) == count
