"""Timings: when Byzantine workers send, and from which model their rows are computed, one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.timings.base import HeldRow, Reply, Timing

__all__ = ["HeldRow", "Reply", "Timing", "available", "build", "factory"]

members.open_folder("timing")


def available() -> tuple[str, ...]:
    """The names of all timings, sorted; no file of them is loaded."""
    return members.available("timing")


def factory(reference: str | Callable[..., Timing]) -> Callable[..., Timing]:
    """The function behind a timing's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the timing's options as keyword arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("timing", reference)


def build(name: str, **options: Any) -> Timing:
    """Builds a timing by its name.

    Args:
        name: Such as `"late"`.
        **options: Options of the timing.

    Returns:
        The timing.

    Raises:
        PartError: For an unknown name; an OptionError for an option out of its range.

    Example:
        >>> build("replay", age=4).oldest, build("honest").in_time
        (4, True)
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., Timing]:
    return members.attribute("timing", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
