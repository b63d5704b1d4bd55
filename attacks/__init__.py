"""Attacks: `build(name, n, f, **options)` gives an `Attack`; one file per attack, found by its name."""

import difflib
import importlib
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byzax.attacks.base import Answer, Attack, Batch, Goal, View, view_of

__all__ = ["Answer", "Attack", "Batch", "Goal", "View", "available", "build", "factory", "view_of"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose attacks/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "attacks")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)


def available() -> tuple[str, ...]:
    """The names of all attacks: one for each file of this folder, `base` aside."""
    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and m.name[0] != "_" and m.name != "base")
    )


def factory(name: str) -> Callable[..., Attack]:
    """The function behind an attack's name: `factory("little")(n, f)`. Raises ValueError for an unknown name."""
    if name not in available():
        near = difflib.get_close_matches(name, available(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown attack {name!r}: {hint}available: {', '.join(available())}")
    module = importlib.import_module(f"{__name__}.{name}")
    if not hasattr(module, name):
        raise ValueError(f"{module.__file__} must hold a function of its own name, {name}")
    return getattr(module, name)


def build(name: str, n: int, f: int, **options: Any) -> Attack:
    """The attack `name` for `n` rows of which `f` are Byzantine: the way to have one from Python.

    Raises ValueError for an unknown name, an impossible (n, f) or an option out of range.

    >>> import jax, jax.numpy as jnp
    >>> attack, rows = build("sign_flip", n=3, f=1, scale=2.0), jnp.ones((3, 2))
    >>> view = view_of(rows, jnp.array([True, False, False]))
    >>> attack.forge(jax.random.key(0), view, attack.init(2))[0].tolist()
    [[-2.0, -2.0], [1.0, 1.0], [1.0, 1.0]]
    """
    return factory(name)(n, f, **options)
