"""Models: `build(name, shape, classes, **options)` returns a `Model`; one file per model, found by its name."""

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

    Returns:
        The function.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("model", reference)


def build(name: str, shape: tuple[int, ...], classes: int | None, **options: Any) -> Model:
    """The model of a name.

    Args:
        name: A name of `available()`, or `"path/to/file.py:name"`.
        shape: Of one sample.
        classes: The number of labels; None where the data has values (regression).
        **options: Those of the model.

    Returns:
        The model.

    Raises:
        PartError: For an unknown name or an impossible shape; as `OptionError` for an option out of its range.
        PluginError: Where a file of your own cannot be used.

    Example:
        >>> import jax
        >>> model = build("mlp", (28, 28), 10, hidden=(100,))
        >>> model.init(jax.random.key(0)).shape
        (79510,)
    """
    return factory(name)(shape, classes, **options)


def __getattr__(name: str) -> Callable[..., Model]:
    return members.attribute("model", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
