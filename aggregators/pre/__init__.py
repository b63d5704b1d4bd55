"""Pre-aggregations, which mix or shorten the rows before the rule; one file each, found by its name."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.aggregators.pre.base import Mixer, chained

__all__ = ["Mixer", "available", "build", "chained", "factory"]

members.open_folder("pre")


def available() -> tuple[str, ...]:
    """The names of all pre-aggregations."""
    return members.available("pre")


def factory(reference: str | Callable[..., Mixer]) -> Callable[..., Mixer]:
    """The function behind a name: `factory("nnm")(n, f)`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which builds the pre-aggregation from n, f and its options.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.

    Example:
        >>> factory("bucketing")(15, 3, s=2).kept
        8
    """
    return members.find("pre", reference)


def build(name: str | Callable[..., Mixer], n: int, f: int, **options: Any) -> Mixer:
    """Builds a pre-aggregation by its name.

    Args:
        name: Such as `"nnm"`; or `"path/to/file.py:name"`, or its function.
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        **options: Options of the pre-aggregation.

    Returns:
        The pre-aggregation.

    Raises:
        PartError: For an unknown name, or an impossible n and f; an OptionError for an option out of its range.
        PluginError: Where a file that is named cannot be used.

    Example:
        >>> build("bucketing", 15, 3, s=2).kept
        8
    """
    return factory(name)(n, f, **options)


def __getattr__(name: str) -> Callable[..., Mixer]:
    return members.attribute("pre", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
