"""Loggers: where the measurements of runs go besides the files of a study, one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.loggers.base import LoggedRun, Logger

__all__ = ["LoggedRun", "Logger", "available", "build", "factory"]

members.open_folder("logger")


def available() -> tuple[str, ...]:
    """The names of all loggers, sorted; no file of them is loaded."""
    return members.available("logger")


def factory(reference: str | Callable[..., Logger]) -> Callable[..., Logger]:
    """The function behind a logger's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the logger's options as keyword arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("logger", reference)


def build(name: str, **options: Any) -> Logger:
    """Builds a logger by its name.

    Args:
        name: Such as `"tensorboard"`.
        **options: Options of the logger.

    Returns:
        The logger.

    Raises:
        PartError: For an unknown name; an OptionError for an option out of its range.
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., Logger]:
    return members.attribute("logger", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
