"""Augmentations: random changes of training images, one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.augmentations.base import Augmentation

__all__ = ["Augmentation", "available", "build", "factory"]

members.open_folder("augmentation")


def available() -> tuple[str, ...]:
    """The names of all augmentations, sorted; no file of them is loaded."""
    return members.available("augmentation")


def factory(reference: str | Callable[..., Augmentation]) -> Callable[..., Augmentation]:
    """The function behind an augmentation's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the augmentation's options as keyword arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("augmentation", reference)


def build(name: str, **options: Any) -> Augmentation:
    """Builds an augmentation by its name.

    Args:
        name: Such as `"flip"`.
        **options: Options of the augmentation.

    Returns:
        The augmentation.

    Raises:
        PartError: For an unknown name; an OptionError for an option out of its range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> build("flip", probability=1.0)(jax.random.key(0), jnp.arange(6.0).reshape(1, 2, 3)).tolist()
        [[[2.0, 1.0, 0.0], [5.0, 4.0, 3.0]]]
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., Augmentation]:
    return members.attribute("augmentation", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
