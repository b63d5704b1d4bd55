"""Ways to split training samples over workers: `build(name, **options)` gives a `Partition`; one file for each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.partitions.base import Partition, Samples

__all__ = ["Partition", "Samples", "available", "build", "factory"]

members.open_folder("partition")


def available() -> tuple[str, ...]:
    """The names of all partitions."""
    return members.available("partition")


def factory(reference: str | Callable[..., Partition]) -> Callable[..., Partition]:
    """The function behind a partition's name: `factory("iid")()`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("partition", reference)


def build(name: str, **options: Any) -> Partition:
    """The partition `name`: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> import numpy as np
    >>> samples = Samples(labels=np.array([0, 1] * 5), owners=None, x=lambda: np.zeros((10, 2), np.float32))
    >>> [len(positions) for positions in build("iid")(samples, 3, np.random.default_rng(0))]
    [4, 3, 3]
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., Partition]:
    return members.attribute("partition", name)


def __dir__() -> list[str]:
    return sorted([*globals(), *available()])
