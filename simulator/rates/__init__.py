"""How a learning rate changes over a run: `build(name, updates, **options)` gives a `Rate`; one file for each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.rates.base import Rate

__all__ = ["Rate", "available", "build", "factory"]

members.open_folder("rate")


def available() -> tuple[str, ...]:
    """The names of all schedules of a learning rate."""
    return members.available("rate")


def factory(reference: str | Callable[..., Rate]) -> Callable[..., Rate]:
    """The function behind a schedule's name: `factory("constant")(100)`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("rate", reference)


def build(name: str, updates: int, **options: Any) -> Rate:
    """The schedule `name` for a run of so many updates: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> [round(float(build("step", 9, start=0.5, every=3, factor=0.1)(t)), 6) for t in (0, 2, 3, 6)]
    [0.5, 0.5, 0.05, 0.005]
    """
    return factory(name)(updates, **options)


def __getattr__(name: str) -> Callable[..., Rate]:
    return members.attribute("rate", name)


def __dir__() -> list[str]:
    return sorted([*globals(), *available()])
