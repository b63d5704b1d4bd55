"""How long work takes, in virtual seconds: `build(name, **options)` gives a `Latency`; one file for each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byzax.simulator import registry
from byzax.simulator.latency.base import Latency

__all__ = ["Latency", "available", "build", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose latency/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "latency")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)


def available() -> tuple[str, ...]:
    """The names of all latency models."""
    return registry.available(__name__)


def factory(name: str) -> Callable[..., Latency]:
    """The function behind a name: `factory("constant")()`. Raises ValueError for an unknown name."""
    return registry.factory(__name__, name, "latency")


def build(name: str, **options: Any) -> Latency:
    """The latency model `name`: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> import numpy as np
    >>> build("constant", seconds=2.0)(np.random.default_rng(0), 0, 0, 3).tolist()
    [2.0, 2.0, 2.0]
    """
    return factory(name)(**options)
