"""Partitions of the training samples over the workers: one file per way to split, found by its name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulator import registry
from simulator.partitions.base import Partition

__all__ = ["Partition", "available", "build", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose partitions/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "partitions")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)


def available() -> tuple[str, ...]:
    """The names of all partitions."""
    return registry.available(__name__)


def factory(name: str) -> Callable[..., Partition]:
    """The function behind a partition's name: `factory("iid")()`. Raises ValueError for an unknown name."""
    return registry.factory(__name__, name)


def build(name: str, **options: Any) -> Partition:
    """The partition `name`. Raises ValueError for an unknown name or an option out of range."""
    return factory(name)(**options)
