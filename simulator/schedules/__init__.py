"""Who computes what from which model, and when: `build(name, n, f, **options)` gives a `Schedule`, one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.schedules.base import Board, Schedule, Situation

__all__ = ["Board", "Schedule", "Situation", "available", "build", "factory"]

members.open_folder("schedule")


def available() -> tuple[str, ...]:
    """The names of all schedules."""
    return members.available("schedule")


def factory(reference: str | Callable[..., Schedule]) -> Callable[..., Schedule]:
    """The function behind a schedule's name: `factory("synchronous")(n, f)`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("schedule", reference)


def build(name: str, n: int, f: int, **options: Any) -> Schedule:
    """The schedule `name` for `n` workers of which `f` may be Byzantine: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> board = Board(step=0, least=1, waiting={0, 2}, known=set(), clocks=[1, 0, 1], slowest=lambda: 0)
    >>> build("synchronous", 3, 1, quorum="n-f").due(board), build("synchronous", 3, 1).due(board)
    (True, False)
    """
    return factory(name)(n, f, **options)


def __getattr__(name: str) -> Callable[..., Schedule]:
    return members.attribute("schedule", name)


def __dir__() -> list[str]:
    return sorted([*globals(), *available()])
