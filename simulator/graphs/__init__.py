"""Graphs: which nodes exchange models in gossip, one file each, found by its name."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.graphs.base import NodeGraph

__all__ = ["NodeGraph", "available", "build", "factory"]

members.open_folder("graph")


def available() -> tuple[str, ...]:
    """The names of all graphs, sorted; no file of them is loaded."""
    return members.available("graph")


def factory(reference: str | Callable[..., NodeGraph]) -> Callable[..., NodeGraph]:
    """The function behind a graph's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the number of nodes, and the options as keyword arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("graph", reference)


def build(name: str | Callable[..., NodeGraph], n: int, **options: Any) -> NodeGraph:
    """Builds a graph by its name.

    Args:
        name: Such as `"ring"`; or `"path/to/file.py:name"`, or its function.
        n: Number of nodes.
        **options: Options of the graph.

    Returns:
        The graph.

    Raises:
        PartError: For an unknown name, or an impossible n; an OptionError for an option out of its range.

    Example:
        >>> build("chain", 4).edges
        ((0, 1), (1, 2), (2, 3))
    """
    return factory(name)(n, **options)


def __getattr__(name: str) -> Callable[..., NodeGraph]:
    return members.attribute("graph", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
