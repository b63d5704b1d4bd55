"""Data sets: `build(name, **options)` gives a `Dataset`; one file per data set, found by its name."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.data.base import DataError, Dataset, Split, split

__all__ = ["DataError", "Dataset", "Split", "available", "build", "factory", "split"]

members.open_folder("data")


def available() -> tuple[str, ...]:
    """The names of all data sets."""
    return members.available("data")


def factory(reference: str | Callable[..., Dataset]) -> Callable[..., Dataset]:
    """The function behind a data set's name: `factory("digits")()`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("data", reference)


def build(name: str, **options: Any) -> Dataset:
    """The data set `name`: the way to have one from Python.

    The same options give the same read-only arrays again, read once per process.

    Raises ValueError for an unknown name or an option out of range, and DataError for missing or damaged files.

    >>> build("gaussian_mixture", samples=30, shape=(2,), classes=3).x.shape
    (30, 2)
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., Dataset]:
    return members.attribute("data", name)


def __dir__() -> list[str]:
    return sorted([*globals(), *available()])
