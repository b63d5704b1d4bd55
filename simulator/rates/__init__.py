"""How a learning rate changes over a run: `build(name, updates, **options)` gives a `Rate`; one file for each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byzax.simulator import registry
from byzax.simulator.rates.base import Rate

__all__ = ["Rate", "available", "build", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose rates/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "rates")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)


def available() -> tuple[str, ...]:
    """The names of all schedules of a learning rate."""
    return registry.available(__name__)


def factory(name: str) -> Callable[..., Rate]:
    """The function behind a name: `factory("constant")(100)`. Raises ValueError for an unknown name."""
    return registry.factory(__name__, name, "rate")


def build(name: str, updates: int, **options: Any) -> Rate:
    """The schedule `name` for a run of so many updates: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> [round(float(build("step", 9, start=0.5, every=3, factor=0.1)(t)), 6) for t in (0, 2, 3, 6)]
    [0.5, 0.5, 0.05, 0.005]
    """
    return factory(name)(updates, **options)
