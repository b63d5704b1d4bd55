"""Aggregation rules: `build(name, n, f, **options)` gives an `Aggregator`; one file per rule, found by its name."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from byzax.aggregators import pre as before
from byzax.aggregators.base import Aggregator, Context, Info, Nested, files, function_of

__all__ = ["Aggregator", "Context", "Info", "Nested", "available", "build", "factory"]

# $BYZAX_PLUGINS: folders (separated like $PATH) whose aggregators/ holds more files of this kind, found by name too
__path__.extend(
    str(Path(folder, "aggregators")) for folder in os.environ.get("BYZAX_PLUGINS", "").split(os.pathsep) if folder
)


def available() -> tuple[str, ...]:
    """The names of all rules: one for each file of this folder, `base` aside."""
    return files(__path__)


def factory(name: str) -> Callable[..., Aggregator]:
    """The function behind a rule's name: `factory("krum")(n, f)`. Raises ValueError for an unknown name."""
    return function_of(__name__, "rule", name, available())


def build(name: str, n: int, f: int, *, pre: Sequence[str | Mapping[str, Any]] = (), **options: Any) -> Aggregator:
    """The rule `name` for `n` rows of which `f` may be Byzantine, over what `pre` makes of them, from left to right.

    `pre` holds names from `byzax.aggregators.pre`, or mappings of `name` and options, such as
    `pre=["nnm", {"name": "bucketing", "s": 2}]`.

    Raises ValueError for an unknown name, an impossible (n, f) or an option out of range.
    """
    parts = [{"name": part} if isinstance(part, str) else dict(part) for part in pre]
    makers = [partial(before.factory(part.pop("name")), **part) for part in parts]
    return before.chained(partial(factory(name), **options), n, f, makers)
