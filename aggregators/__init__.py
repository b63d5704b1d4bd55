"""Aggregation rules: `build(name, n, f, **options)` gives an `Aggregator`; one file per rule, found by its name."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from byzax import members
from byzax.aggregators import pre as before
from byzax.aggregators.base import Aggregator, Context, Info, Nested

__all__ = ["Aggregator", "Context", "Info", "Nested", "available", "build", "factory"]

members.open_folder("rule")


def available() -> tuple[str, ...]:
    """The names of all rules."""
    return members.available("rule")


def factory(reference: str | Callable[..., Aggregator]) -> Callable[..., Aggregator]:
    """The function behind a rule's name: `factory("krum")(n, f)`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("rule", reference)


def build(name: str, n: int, f: int, *, pre: Sequence[str | Mapping[str, Any]] = (), **options: Any) -> Aggregator:
    """The rule `name` for `n` rows of which `f` may be Byzantine, over what `pre` makes of them, from left to right.

    `pre` holds names from `byzax.aggregators.pre`, or mappings of `name` and options, such as
    `pre=["nnm", {"name": "bucketing", "s": 2}]`.

    Raises ValueError for an unknown name, an impossible (n, f) or an option out of range.
    """
    parts = [{"name": part} if isinstance(part, str) else dict(part) for part in pre]
    makers = [partial(before.factory(part.pop("name")), **part) for part in parts]
    return before.chained(partial(factory(name), **options), n, f, makers)


def __getattr__(name: str) -> Callable[..., Aggregator]:
    return members.attribute("rule", name)


def __dir__() -> list[str]:
    return sorted([*globals(), *available()])
