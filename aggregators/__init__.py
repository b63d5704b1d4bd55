"""Aggregation rules: `build(name, n, f, **options)` gives an `Aggregator`; one file per rule, found by its name."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from byzax import members
from byzax.aggregators import pre as before
from byzax.aggregators.base import Aggregator, Context, Info
from byzax.options import Nested

__all__ = ["Aggregator", "Context", "Info", "Nested", "available", "build", "factory"]

members.open_folder("rule")


def available() -> tuple[str, ...]:
    """The names of all rules."""
    return members.available("rule")


def factory(reference: str | Callable[..., Aggregator]) -> Callable[..., Aggregator]:
    """The function behind a rule's name: `factory("krum")(n, f)`.

    Args:
        reference: A name, `"path/to/file.py:name"`, or the function itself.

    Returns:
        The function, which builds the rule from n, f and its options.

    Raises:
        PartError: For an unknown name, with the nearest one.
        PluginError: Where the file cannot be used.
    """
    return members.find("rule", reference)


def build(
    name: str | Callable[..., Aggregator],
    n: int,
    f: int,
    *,
    pre: Sequence[str | Callable[..., before.Mixer] | Mapping[str, Any]] = (),
    **options: Any,
) -> Aggregator:
    """Builds a rule from its name, over pre-aggregations where there are any.

    Args:
        name: Name of the rule; or `"path/to/file.py:name"`, or its function.
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        pre: Steps before the rule, from left to right: names from `byzax.aggregators.pre`, or mappings of
            `name` and options.
        **options: Options of the rule.

    Returns:
        The rule for n rows.

    Raises:
        PartError: For an unknown name or an impossible (n, f); its subclass OptionError for an option out of range.
        PluginError: Where a file that is named cannot be used.

    Example:
        >>> rule = build("krum", 15, 2, pre=["nnm", {"name": "bucketing", "s": 2}], distance="plain")
        >>> rule.least_rows(2)
        13
    """
    parts = [dict(part) if isinstance(part, Mapping) else {"name": part} for part in pre]
    makers = [partial(before.factory(part.pop("name")), **part) for part in parts]
    return before.chained(partial(factory(name), **options), n, f, makers)


def __getattr__(name: str) -> Callable[..., Aggregator]:
    return members.attribute("rule", name)


def __dir__() -> list[str]:
    return sorted({*__all__, "filters", "mixing", "pre", *available()})
