"""Mixing: what a node without a server makes of its own model and those of its neighbours; one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.aggregators.base import Aggregator, Neighbourhood

__all__ = ["Aggregator", "Neighbourhood", "available", "build", "factory"]

members.open_folder("mixing")


def available() -> tuple[str, ...]:
    """The names of all ways to mix."""
    return members.available("mixing")


def factory(reference: str | Callable[..., Aggregator]) -> Callable[..., Aggregator]:
    """The function behind a name: `factory("clipped_gossip")(n, f)`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which builds the mixing from n, f and its options.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("mixing", reference)


def build(name: str | Callable[..., Aggregator], n: int, f: int, **options: Any) -> Aggregator:
    """Builds a mixing by its name.

    Args:
        name: Such as `"clipped_gossip"`; or `"path/to/file.py:name"`, or its function.
        n: Number of models, the node's own among them.
        f: Number of them that may be Byzantine.
        **options: Options of the mixing.

    Returns:
        The mixing, a rule whose `apply` needs a context with a neighbourhood.

    Raises:
        PartError: For an unknown name, or an impossible n and f; an OptionError for an option out of its range.
        PluginError: Where the file cannot be used.

    Example:
        >>> build("monna", 5, 1).least_rows(2)
        5
    """
    return factory(name)(n, f, **options)


def __getattr__(name: str) -> Callable[..., Aggregator]:
    return members.attribute("mixing", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
