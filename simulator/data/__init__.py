"""Data sets: `build(name, **options)` gives a `Dataset`; one file per data set, found by its name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byzax.simulator import registry
from byzax.simulator.data.base import DataError, Dataset, Split, split

__all__ = ["DataError", "Dataset", "Split", "available", "build", "factory", "split"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose data/ holds more files of this kind, found by name too
__path__.extend(str(Path(folder, "data")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder)


def available() -> tuple[str, ...]:
    """The names of all data sets."""
    return registry.available(__name__)


def factory(name: str) -> Callable[..., Dataset]:
    """The function behind a data set's name: `factory("digits")()`. Raises ValueError for an unknown name."""
    return registry.factory(__name__, name, "data set")


def build(name: str, **options: Any) -> Dataset:
    """The data set `name`: the way to have one from Python.

    The same options give the same read-only arrays again, read once per process.

    Raises ValueError for an unknown name or an option out of range, and DataError for missing or damaged files.

    >>> build("gaussian_mixture", samples=30, shape=(2,), classes=3).x.shape
    (30, 2)
    """
    return factory(name)(**options)
