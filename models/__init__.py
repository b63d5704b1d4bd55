"""Models: `build(name, shape, classes, **options)` gives a `Model`; one file per model, found by its name."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from models.base import Model

__all__ = ["Model", "available", "build", "factory"]


def available() -> tuple[str, ...]:
    """The names of all models: one for each file of this folder, `base` aside."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and m.name != "base"))


def factory(name: str) -> Callable[..., Model]:
    """The function behind a model's name: `factory("mlp")((28, 28), 10)`. Raises ValueError for an unknown name."""
    if name not in available():
        near = difflib.get_close_matches(name, available(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown model {name!r}: {hint}available: {', '.join(available())}")
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)


def build(name: str, shape: tuple[int, ...], classes: int, **options: Any) -> Model:
    """The model `name` for inputs of `shape` (one sample) and `classes` labels.

    Raises ValueError for an unknown name, an impossible shape or an option out of range.
    """
    return factory(name)(shape, classes, **options)
