"""Filters: rules for single rows, where an update has one; one file each, found by its name."""

from collections.abc import Callable

from byzax import members
from byzax.aggregators.filters.base import Filter, Sent

__all__ = ["Filter", "Sent", "available", "factory"]

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


def __getattr__(name: str) -> Callable[..., Filter]:
    return members.attribute("filter", name)


def __dir__() -> list[str]:
    return sorted([*globals(), *available()])
