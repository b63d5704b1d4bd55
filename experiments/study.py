"""Scenario files: read, overridden from the command line, and expanded into the runs of a grid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from byzax.experiments.strict_yaml import parse_text, read_mapping
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.dotted_keys import put, put_order
from byzax.simulator.config.grid import Expansion, expand
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError, prefix_errors, shorten


def load(path: Path, overrides: Sequence[str] = (), raw: Mapping[str, Any] | None = None) -> Expansion:
    """Loads the study of a file; every cell is parsed, and nothing is built yet.

    Args:
        path: The file.
        overrides: Texts `key=value`, applied in this order.
        raw: The content of the file, where it was read already.

    Returns:
        The study, expanded over its grid.

    Raises:
        ScenarioError: One line for each mistake, each beginning with the file's name.
    """
    mapping = dict(read_mapping(path) if raw is None else raw)
    with prefix_errors(path):
        for text in overrides:
            mapping = override(mapping, text)
        study = parse_as(Study, mapping)
    return expand(study, str(path))


def override(raw: dict[str, Any], text: str, description: type[BaseModel] = Study) -> dict[str, Any]:
    """Sets a key of a scenario. Setting a key ends a sweep over it.

    Args:
        raw: The scenario.
        text: `key=value`, with a dotted key and a value in YAML.
        description: The description that the mapping is parsed as.

    Returns:
        A new mapping.

    Raises:
        ScenarioError: For a text without a key or value, an item of a list, or a key inside a component that the grid
            sweeps.

    Example:
        >>> override({"rule": "krum", "grid": {"rule.name": ["krum", "median"]}}, "rule.name=bulyan")
        {'rule': {'name': 'bulyan'}, 'grid': {}}
        >>> override({"rule": "krum"}, "grid.workers.byzantine=[1, 2]")
        {'rule': 'krum', 'grid': {'workers.byzantine': [1, 2]}}
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        example = "steps=50" if "steps" in description.model_fields else "samples=50"
        raise ScenarioError(f"--set {shorten(text)}: key=value is needed, such as --set {example}")
    whole, item, _ = key.partition("[")
    if item:
        raise ScenarioError(f"--set {key}: a list is set whole: --set '{whole}=[...]', or change it in the file")
    chosen = parse_text(value, f"--set {shorten(key)}")
    return assign(raw, key, chosen, description)


def assign(raw: Mapping[str, Any], key: str, value: Any, description: type[BaseModel] = Study) -> dict[str, Any]:
    """Sets a key of a scenario. Setting a key ends a sweep over it, and over keys inside of it.

    Args:
        raw: The scenario.
        key: The dotted key.
        value: The value; of `grid` the whole grid, of `grid.KEY` the values of one more sweep.
        description: The description that the mapping is parsed as.

    Returns:
        A new mapping.

    Raises:
        ScenarioError: For a key inside a component that the grid sweeps, or inside a value that has no keys.
    """
    if "grid" not in description.model_fields:
        return put(raw, key, value, description)
    if key == "grid":
        return {**raw, "grid": value}
    swept = key.removeprefix("grid.")
    sweeps = raw.get("grid")
    if isinstance(sweeps, dict):
        above = [each for each in sweeps if swept.startswith(f"{each}.") and swept != f"{each}.name"]
        if above:
            raise ScenarioError(
                f"{key}: grid.{above[0]} chooses all of {above[0]}: set grid.{above[0]} or {above[0]} instead"
            )
        kept = {each: values for each, values in sweeps.items() if each == swept != key or not _decides(swept, each)}
        raw = {**raw, "grid": kept}
    if key == swept:
        return put(raw, key, value)
    return {**raw, "grid": {**(raw.get("grid") or {}), swept: value}}


def assign_all(
    raw: Mapping[str, Any], values: Mapping[str, Any], description: type[BaseModel] = Study
) -> Mapping[str, Any]:
    """Sets several keys of a scenario at once: their order makes no difference.

    Args:
        raw: The scenario.
        values: Values by dotted key. A key ends a sweep over it in the grid of `raw`, and stands beside a `grid` that
            is given here.
        description: The description that the mapping is parsed as.

    Returns:
        A new mapping.

    Raises:
        ScenarioError: As `assign`.

    Example:
        >>> assign_all({"grid": {"steps": [1, 2]}}, {"steps": 3})
        {'grid': {}, 'steps': 3}
        >>> assign_all({}, {"grid": {"rule.name": ["krum", "median"]}, "rule": "krum"})
        {'rule': {'name': 'krum'}, 'grid': {'rule.name': ['krum', 'median']}}
    """
    for key in sorted(values, key=lambda key: (key.partition(".")[0] == "grid", put_order(key))):
        raw = assign(raw, key, values[key], description)
    return raw


def _decides(key: str, other: str) -> bool:
    """Tells whether a value for `key` also sets `other`."""
    return other == key or other.startswith(f"{key}.") or key == f"{other}.name"
