"""Who computes what from which model, and when: `build(name, n, f, **options)` gives a `Schedule`, one file each."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byzax.simulator import registry
from byzax.simulator.schedules.base import Board, Schedule, Situation

__all__ = ["Board", "Schedule", "Situation", "available", "build", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose schedules/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "schedules")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)


def available() -> tuple[str, ...]:
    """The names of all schedules."""
    return registry.available(__name__)


def factory(name: str) -> Callable[..., Schedule]:
    """The function behind a schedule's name: `factory("synchronous")(n, f)`. Raises ValueError for an unknown name."""
    return registry.factory(__name__, name)


def build(name: str, n: int, f: int, **options: Any) -> Schedule:
    """The schedule `name` for `n` workers of which `f` may be Byzantine: the way to have one from Python.

    Raises ValueError for an unknown name or an option out of range.

    >>> board = Board(step=0, least=1, waiting={0, 2}, known=set(), clocks=[1, 0, 1], slowest=lambda: 0)
    >>> build("synchronous", 3, 1, quorum="n-f").due(board), build("synchronous", 3, 1).due(board)
    (True, False)
    """
    return factory(name)(n, f, **options)
