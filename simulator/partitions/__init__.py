"""Partitions: ways to split the training samples over the workers, one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.partitions.base import Partition, Samples

__all__ = ["Partition", "Samples", "available", "build", "factory"]

members.open_folder("partition")


def available() -> tuple[str, ...]:
    """The names of all partitions, sorted; no file of them is loaded."""
    return members.available("partition")


def factory(reference: str | Callable[..., Partition]) -> Callable[..., Partition]:
    """The function behind a partition's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the partition's options as keyword arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("partition", reference)


def build(name: str, **options: Any) -> Partition:
    """Builds a partition by its name.

    Args:
        name: Such as `"dirichlet"`.
        **options: Options of the partition.

    Returns:
        The partition.

    Raises:
        PartError: For an unknown name; an OptionError for an option out of its range.

    Example:
        >>> import numpy as np
        >>> samples = Samples(labels=np.array([0, 1] * 5), owners=None, x=lambda: np.zeros((10, 2), np.float32))
        >>> [len(positions) for positions in build("iid")(samples, 3, np.random.default_rng(0))]
        [4, 3, 3]
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., Partition]:
    return members.attribute("partition", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
