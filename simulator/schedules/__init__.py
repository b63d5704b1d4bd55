"""Who computes what from which model, and when: `build(name, **options)` gives a `Schedule`; one file for each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulator import registry
from simulator.schedules.base import Schedule

__all__ = ["Schedule", "available", "build", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose schedules/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "schedules")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)


def available() -> tuple[str, ...]:
    """The names of all schedules."""
    return registry.available(__name__)


def factory(name: str) -> Callable[..., Schedule]:
    """The function behind a schedule's name: `factory("synchronous")()`. Raises ValueError for an unknown name."""
    return registry.factory(__name__, name)


def build(name: str, **options: Any) -> Schedule:
    """The schedule `name`: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> import numpy as np
    >>> build("synchronous")(3, 2, np.random.default_rng(0)).workers.tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    return factory(name)(**options)
