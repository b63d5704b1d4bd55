"""Models: `build(name, shape, classes, **options)` gives a `Model`; one file per model, found by its name."""

import difflib
import importlib
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byzax.models.base import Model

__all__ = ["Model", "available", "build", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose models/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "models")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)


def available() -> tuple[str, ...]:
    """The names of all models: one for each file of this folder, `base` aside."""
    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and m.name[0] != "_" and m.name != "base")
    )


def factory(name: str) -> Callable[..., Model]:
    """The function behind a model's name: `factory("mlp")((28, 28), 10)`. Raises ValueError for an unknown name."""
    if name not in available():
        near = difflib.get_close_matches(name, available(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown model {name!r}: {hint}available: {', '.join(available())}")
    module = importlib.import_module(f"{__name__}.{name}")
    if not hasattr(module, name):
        raise ValueError(f"{module.__file__} must hold a function of its own name, {name}")
    return getattr(module, name)


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
