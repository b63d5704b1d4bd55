"""Transforms of the wire: compressors of messages between a sender and a receiver, one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.options import Nested
from byzax.simulator.transforms.base import Shapes, Transform, WireKeys

__all__ = ["Nested", "Transform", "WireKeys", "available", "build", "factory"]

members.open_folder("transform")


def available() -> tuple[str, ...]:
    """The names of all transforms, sorted; no file of them is loaded."""
    return members.available("transform")


def factory(reference: str | Callable[..., Transform]) -> Callable[..., Transform]:
    """The function behind a transform's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the shapes of the model's parameters, and the options as keyword arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("transform", reference)


def build(name: str, shapes: Shapes, **options: Any) -> Transform:
    """Builds a transform by its name.

    Args:
        name: Such as `"top_k"`.
        shapes: The shapes of the model's parameters, in the order in which a vector `[d]` holds them.
        **options: Options of the transform.

    Returns:
        The transform.

    Raises:
        PartError: For an unknown name, or shapes of no or of too many parameters; an OptionError for an option out of
            its range.

    Example:
        >>> build("random_k", ((784, 10), (10,)), share=0.1).omega
        9.0
    """
    return factory(name)(shapes, **options)


def __getattr__(name: str) -> Callable[..., Transform]:
    return members.attribute("transform", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
