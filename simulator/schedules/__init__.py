"""Schedules: which workers compute from which version of the model, and when the server updates it, one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.schedules.base import Board, Schedule, Situation

__all__ = ["Board", "Schedule", "Situation", "available", "build", "factory"]

members.open_folder("schedule")


def available() -> tuple[str, ...]:
    """The names of all schedules, sorted; no file of them is loaded."""
    return members.available("schedule")


def factory(reference: str | Callable[..., Schedule]) -> Callable[..., Schedule]:
    """The function behind a schedule's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the numbers of workers and of Byzantine workers, and the options as keyword
        arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("schedule", reference)


def build(name: str, n: int, f: int, **options: Any) -> Schedule:
    """Builds a schedule by its name.

    Args:
        name: Such as `"asynchronous"`.
        n: Number of workers.
        f: Number of Byzantine workers among them.
        **options: Options of the schedule.

    Returns:
        The schedule.

    Raises:
        PartError: For an unknown name, or an impossible n and f; an OptionError for an option out of its range.

    Example:
        >>> board = Board(step=0, least=1, waiting={0, 2}, known=set(), clocks=[1, 0, 1], slowest=lambda: 0)
        >>> build("synchronous", 3, 1, quorum="n-f").due(board), build("synchronous", 3, 1).due(board)
        (True, False)
    """
    return factory(name)(n, f, **options)


def __getattr__(name: str) -> Callable[..., Schedule]:
    return members.attribute("schedule", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
