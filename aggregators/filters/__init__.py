"""Filters: what judges single rows where an update has one; one file each, found by its name."""

import os
from collections.abc import Callable
from pathlib import Path

from byzax.aggregators.base import files, function_of
from byzax.aggregators.filters.base import Filter, Sent

__all__ = ["Filter", "Sent", "available", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose filters/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "filters")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)


def available() -> tuple[str, ...]:
    """The names of all filters: one for each file of this folder, `base` aside."""
    return files(__path__)


def factory(name: str) -> Callable[..., Filter]:
    """The function behind a name: `factory("kardam")(n, f)`.

    Raises ValueError for an unknown name or a file without it.

    >>> available()[0]
    'kardam'
    """
    return function_of(__name__, "filter", name, available())
