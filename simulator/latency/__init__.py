"""Latency models: the durations of jobs and messages in virtual seconds, one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.latency.base import Latency

__all__ = ["Latency", "available", "build", "factory"]

members.open_folder("latency")


def available() -> tuple[str, ...]:
    """The names of all latency models, sorted; no file of them is loaded."""
    return members.available("latency")


def factory(reference: str | Callable[..., Latency]) -> Callable[..., Latency]:
    """The function behind a latency model's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the model's options as keyword arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("latency", reference)


def build(name: str, **options: Any) -> Latency:
    """Builds a latency model by its name.

    Args:
        name: Such as `"lognormal"`.
        **options: Options of the model.

    Returns:
        The latency model.

    Raises:
        PartError: For an unknown name; an OptionError for an option out of its range.

    Example:
        >>> import numpy as np
        >>> build("constant", seconds=2.0)(np.random.default_rng(0), 0, 0, 3).tolist()
        [2.0, 2.0, 2.0]
    """
    return factory(name)(**options)


def __getattr__(name: str) -> Callable[..., Latency]:
    return members.attribute("latency", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
