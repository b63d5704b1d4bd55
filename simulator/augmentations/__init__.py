"""Changes of training images: `build(name, **options)` gives an `Augmentation`; one file for each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byzax.simulator import registry
from byzax.simulator.augmentations.base import Augmentation

__all__ = ["Augmentation", "available", "build", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose augmentations/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "augmentations")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)


def available() -> tuple[str, ...]:
    """The names of all augmentations."""
    return registry.available(__name__)


def factory(name: str) -> Callable[..., Augmentation]:
    """The function behind a name: `factory("flip")()`. Raises ValueError for an unknown name."""
    return registry.factory(__name__, name)


def build(name: str, **options: Any) -> Augmentation:
    """The augmentation `name`: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> import jax, jax.numpy as jnp
    >>> build("flip", probability=1.0)(jax.random.key(0), jnp.arange(6.0).reshape(1, 2, 3)).tolist()
    [[[2.0, 1.0, 0.0], [5.0, 4.0, 3.0]]]
    """
    return factory(name)(**options)
