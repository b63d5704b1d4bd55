"""Changes of training images: `build(name, **options)` gives an `Augmentation`; one file for each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.augmentations.base import Augmentation

__all__ = ["Augmentation", "available", "build", "factory"]

members.open_folder("augmentation")


def available() -> tuple[str, ...]:
    """The names of all augmentations."""
    return members.available("augmentation")


def factory(reference: str | Callable[..., Augmentation]) -> Callable[..., Augmentation]:
    """The function behind an augmentation's name: `factory("flip")()`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("augmentation", reference)


def build(name: str, **options: Any) -> Augmentation:
    """The augmentation `name`: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> import jax, jax.numpy as jnp
    >>> build("flip", probability=1.0)(jax.random.key(0), jnp.arange(6.0).reshape(1, 2, 3)).tolist()
    [[[2.0, 1.0, 0.0], [5.0, 4.0, 3.0]]]
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., Augmentation]:
    return members.attribute("augmentation", name)


def __dir__() -> list[str]:
    return sorted([*globals(), *available()])
