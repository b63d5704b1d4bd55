"""Learning rate schedules: a rate that depends on the number of updates made before, one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.rates.base import Rate

__all__ = ["Rate", "available", "build", "factory"]

members.open_folder("rate")


def available() -> tuple[str, ...]:
    """The names of all learning rate schedules, sorted; no file of them is loaded."""
    return members.available("rate")


def factory(reference: str | Callable[..., Rate]) -> Callable[..., Rate]:
    """The function behind a learning rate schedule's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the number of updates of the run, and the options as keyword arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("rate", reference)


def build(name: str, updates: int, **options: Any) -> Rate:
    """Builds a learning rate schedule by its name.

    Args:
        name: Such as `"cosine"`.
        updates: Number of updates of the run.
        **options: Options of the schedule.

    Returns:
        The schedule.

    Raises:
        PartError: For an unknown name; an OptionError for an option out of its range.

    Example:
        >>> [round(float(build("step", 9, start=0.5, every=3, factor=0.1)(t)), 6) for t in (0, 2, 3, 6)]
        [0.5, 0.5, 0.05, 0.005]
    """
    return factory(name)(updates, **options)


def __getattr__(name: str) -> Callable[..., Rate]:
    return members.attribute("rate", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
