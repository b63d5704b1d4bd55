"""A scenario that fails, made as small as it can be while it fails in the same way."""

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

NEEDED = {"name", "data", "rule", "attack"}
# what is tried in place of a part of a scenario
SIMPLE: dict[str, list[Any]] = {
    "data": [{"name": "gaussian_mixture", "samples": 120, "shape": [4], "classes": 2}, "linear_regression"],
    "model": ["softmax", "linear"],
    "rule": ["average", "median"],
    "attack": ["none"],
}


def shrunk(mapping: dict[str, Any], fails: Callable[[dict[str, Any]], bool], seconds: float = 300) -> dict[str, Any]:
    """The smallest mapping found within so many seconds for which `fails` still holds, changing one thing at a time."""
    end = time.monotonic() + seconds
    progress = True
    while progress:
        progress = False
        for smaller in changes(mapping):
            if time.monotonic() > end:
                return mapping
            if fails(copy.deepcopy(smaller)):
                mapping, progress = smaller, True
                break
    return mapping


def changes(mapping: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All mappings that are one step simpler, those that are much simpler first."""
    for key in mapping:
        if key not in NEEDED:
            yield {each: value for each, value in mapping.items() if each != key}
    for key, simple in SIMPLE.items():
        for value in simple:
            if key in mapping and mapping[key] != value and _size(mapping[key]) > _size(value):
                yield mapping | {key: value}
    for key, value in mapping.items():
        if key not in ("name", "seed"):
            for smaller in _simpler(value):
                yield mapping | {key: smaller}


def _simpler(value: Any) -> Iterator[Any]:
    match value:
        case {"name": name}:
            if len(value) > 1:
                yield name
    match value:
        case dict():
            for key in value:
                if key != "name" and len(value) > 1:
                    yield {each: inner for each, inner in value.items() if each != key}
            for key, inner in value.items():
                for smaller in _simpler(inner):
                    yield value | {key: smaller}
        case list():
            for place in range(len(value)):
                yield value[:place] + value[place + 1 :]
            for place, inner in enumerate(value):
                for smaller in _simpler(inner):
                    yield [*value[:place], smaller, *value[place + 1 :]]
        case bool() | str() | None:
            return
        case int():
            yield from (each for each in (0, 1, 2, value // 2, value - 1) if 0 <= each < value)
        case float():
            yield from (each for each in (0.0, 1.0, 0.5) if len(str(each)) < len(str(value)))


def _size(value: Any) -> int:
    return len(str(value))
