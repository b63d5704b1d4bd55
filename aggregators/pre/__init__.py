"""Pre-aggregations: what stands in front of a rule; one file each, found by its name."""

import difflib
import importlib
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path

from aggregators.pre.base import Mixer, chained

__all__ = ["Mixer", "available", "chained", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose pre/ holds more files of this kind, found by name too
__path__.extend(str(Path(folder, "pre")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder)


def available() -> tuple[str, ...]:
    """The names of all pre-aggregations: one for each file of this folder, `base` aside."""
    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg and m.name[0] != "_" and m.name != "base")
    )


def factory(name: str) -> Callable[..., Mixer]:
    """The function behind a name: `factory("nnm")(n, f)`. Raises ValueError for an unknown name or a file without it.

    >>> factory("bucketing")(15, 3, s=2).kept
    8
    """
    if name not in available():
        near = difflib.get_close_matches(name, available(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown pre-aggregation {name!r}: {hint}available: {', '.join(available())}")
    module = importlib.import_module(f"{__name__}.{name}")
    if not hasattr(module, name):
        raise ValueError(f"{module.__file__} must hold a function of its own name, {name}")
    return getattr(module, name)
