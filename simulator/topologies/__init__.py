"""Topologies: which nodes take part in a run, and the table of what they do, one file each."""

from collections.abc import Callable
from typing import Any

from byzax import members
from byzax.simulator.topologies.base import NetworkParts, Topology

__all__ = ["NetworkParts", "Topology", "available", "build", "factory"]

members.open_folder("topology")


def available() -> tuple[str, ...]:
    """The names of all topologies, sorted; no file of them is loaded."""
    return members.available("topology")


def factory(reference: str | Callable[..., Topology]) -> Callable[..., Topology]:
    """The function behind a topology's name.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which takes the numbers of workers and of Byzantine workers, and the options as keyword
        arguments.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("topology", reference)


def build(name: str, n: int, f: int, **options: Any) -> Topology:
    """Builds a topology by its name.

    Args:
        name: Such as `"gossip"`.
        n: Number of workers.
        f: Number of Byzantine workers among them.
        **options: Options of the topology.

    Returns:
        The topology.

    Raises:
        PartError: For an unknown name, or an impossible n and f; an OptionError for an option out of its range.

    Example:
        >>> build("gossip", 6, 1, graph="ring").inboxes
        (3,)
    """
    return factory(name)(n, f, **options)


def __getattr__(name: str) -> Callable[..., Topology]:
    return members.attribute("topology", name)


def __dir__() -> list[str]:
    return sorted({*__all__, *available()})
