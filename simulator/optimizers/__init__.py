"""Optimizers of server and workers: one file each, which gives an `optax.GradientTransformation`."""

from collections.abc import Callable
from typing import Any

from optax import GradientTransformation

from byzax import members

__all__ = ["GradientTransformation", "available", "build", "factory"]

members.open_folder("optimizer")


def available() -> tuple[str, ...]:
    """The names of all optimizers, sorted; no file of them is loaded."""
    return members.available("optimizer")


def factory(reference: str | Callable[..., GradientTransformation]) -> Callable[..., GradientTransformation]:
    """The function behind an optimizer's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the optimizer's options as keyword arguments: `factory("sgd")(learning_rate=0.1)`.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("optimizer", reference)


def build(name: str | Callable[..., GradientTransformation], **options: Any) -> GradientTransformation:
    """Builds an optimizer by its name.

    Args:
        name: Such as `"sgd"`; or `"path/to/file.py:name"`, or its function.
        **options: Options of the optimizer.

    Returns:
        The optimizer.

    Raises:
        PartError: For an unknown name; an OptionError for an option out of its range.
        PluginError: Where a file that is named cannot be used.

    Example:
        >>> build("sgd", learning_rate=0.1).init([0.0]) is not None
        True
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., GradientTransformation]:
    return members.attribute("optimizer", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
