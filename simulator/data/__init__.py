"""Data sets: one file each; their files are looked for on disk, and downloaded where they are published."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.data.base import DataError, Dataset, Split, split

__all__ = ["DataError", "Dataset", "Split", "available", "build", "factory", "split"]

members.open_folder("data")


def available() -> tuple[str, ...]:
    """The names of all data sets, sorted; no file of them is loaded."""
    return members.available("data")


def factory(reference: str | Callable[..., Dataset]) -> Callable[..., Dataset]:
    """The function behind a data set's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the data set's options as keyword arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("data", reference)


def build(name: str, **options: Any) -> Dataset:
    """Builds a data set by its name.

    The same options give the same read-only arrays again, which are read or generated once per process.

    Args:
        name: Such as `"mnist"`.
        **options: Options of the data set.

    Returns:
        The data set.

    Raises:
        PartError: For an unknown name; an OptionError for an option out of its range, a DataError for missing or
            damaged files.

    Example:
        >>> build("gaussian_mixture", samples=30, shape=(2,), classes=3).x.shape
        (30, 2)
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., Dataset]:
    return members.attribute("data", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
