"""How long work takes, in virtual seconds: `build(name, **options)` gives a `Latency`; one file for each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.latency.base import Latency

__all__ = ["Latency", "available", "build", "factory"]

members.open_folder("latency")


def available() -> tuple[str, ...]:
    """The names of all latency models."""
    return members.available("latency")


def factory(reference: str | Callable[..., Latency]) -> Callable[..., Latency]:
    """The function behind a latency model's name: `factory("constant")()`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("latency", reference)


def build(name: str, **options: Any) -> Latency:
    """The latency model `name`: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> import numpy as np
    >>> build("constant", seconds=2.0)(np.random.default_rng(0), 0, 0, 3).tolist()
    [2.0, 2.0, 2.0]
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., Latency]:
    return members.attribute("latency", name)


def __dir__() -> list[str]:
    return sorted([*globals(), *available()])
