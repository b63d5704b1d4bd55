"""Filters: rules for single rows, where an update has one; one file each, found by its name."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.aggregators.filters.base import Filter, Sent

__all__ = ["Filter", "Sent", "available", "build", "factory"]

members.open_folder("filter")


def available() -> tuple[str, ...]:
    """The names of all filters."""
    return members.available("filter")


def factory(reference: str | Callable[..., Filter]) -> Callable[..., Filter]:
    """The function behind a name: `factory("kardam")(n, f)`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which builds the filter from n, f and its options.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.

    Example:
        >>> factory("kardam").__name__
        'kardam'
    """
    return members.find("filter", reference)


def build(name: str | Callable[..., Filter], n: int, f: int, **options: Any) -> Filter:
    """Builds a filter by its name.

    Args:
        name: Such as `"kardam"`; or `"path/to/file.py:name"`, or its function.
        n: Number of workers.
        f: Number of Byzantine workers among them.
        **options: Options of the filter.

    Returns:
        The filter.

    Raises:
        PartError: For an unknown name, or an impossible n and f; an OptionError for an option out of its range.
        PluginError: Where a file that is named cannot be used.

    Example:
        >>> sorted(build("zeno_plus_plus", 15, 3).needs)
        ['gradient']
    """
    return factory(name)(n, f, **options)


def __getattr__(name: str) -> Callable[..., Filter]:
    return members.attribute("filter", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
