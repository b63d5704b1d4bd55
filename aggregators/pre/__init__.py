"""Pre-aggregations: what stands in front of a rule; one file each, found by its name."""

import os
from collections.abc import Callable
from pathlib import Path

from byzax.aggregators.base import files, function_of
from byzax.aggregators.pre.base import Mixer, chained

__all__ = ["Mixer", "available", "chained", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose pre/ holds more files of this kind, found by name too
__path__.extend(str(Path(folder, "pre")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder)


def available() -> tuple[str, ...]:
    """The names of all pre-aggregations: one for each file of this folder, `base` aside."""
    return files(__path__)


def factory(name: str) -> Callable[..., Mixer]:
    """The function behind a name: `factory("nnm")(n, f)`. Raises ValueError for an unknown name or a file without it.

    >>> factory("bucketing")(15, 3, s=2).kept
    8
    """
    return function_of(__name__, "pre-aggregation", name, available())
