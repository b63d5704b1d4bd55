"""Models: `build(name, shape, classes, **options)` gives a `Model`; one file per model, found by its name."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.models.base import Model

__all__ = ["Model", "available", "build", "factory"]

members.open_folder("model")


def available() -> tuple[str, ...]:
    """The names of all models."""
    return members.available("model")


def factory(reference: str | Callable[..., Model]) -> Callable[..., Model]:
    """The function behind a model's name: `factory("mlp")((28, 28), 10)`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("model", reference)


def build(name: str, shape: tuple[int, ...], classes: int | None, **options: Any) -> Model:
    """The model `name` for inputs of `shape` (one sample): the way to have one from Python.

    `classes` is the number of labels, or None where the data has values (regression).

    Raises ValueError for an unknown name, an impossible shape or an option out of range.

    >>> import jax
    >>> model = build("mlp", (28, 28), 10, hidden=(100,))
    >>> model.init(jax.random.key(0)).shape
    (79510,)
    """
    return factory(name)(shape, classes, **options)


def __getattr__(name: str) -> Callable[..., Model]:
    return members.attribute("model", name)


def __dir__() -> list[str]:
    return sorted([*globals(), *available()])
