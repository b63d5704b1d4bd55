"""Scenario files: read, overridden from the command line, and expanded into the runs of a grid."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from byzax.experiments.strict_yaml import is_shipped, parse_text, read_mapping
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.combinations import matches
from byzax.simulator.config.dotted_keys import put, put_order
from byzax.simulator.config.grid import OF_COMBINATIONS, Expansion, expand
from byzax.simulator.config.study import Study
from byzax.simulator.mistakes import ScenarioError, prefix_errors, quote, shorten


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
    mapping = dict(read_scenario(path) if raw is None else raw)
    with prefix_errors(path):
        for text in overrides:
            mapping = override(mapping, text)
        study = parse_as(Study, mapping)
    return expand(study, str(path))


def read_scenario(path: Path, above: Sequence[Path] = ()) -> dict[str, Any]:
    """Reads a scenario, with what it `extends`.

    Args:
        path: The file.
        above: The files that extend it, the first one first.

    Returns:
        The scenario, without `extends`: that of the file that it extends, with its own keys set as by `--set`. A
        mapping is set key by key, a part that is named as a whole.

    Raises:
        ScenarioError: For a file that cannot be read, that is no text, or that extends itself.
    """
    mapping = read_mapping(path)
    if "extends" not in mapping:
        return mapping
    given = mapping.pop("extends")
    if not isinstance(given, str) or not given.strip():
        raise ScenarioError(f"{path}: extends: the path of a scenario is needed, got {quote(given)}")
    other = path.parent / given if (path.parent / given).exists() or not is_shipped(Path(given)) else Path(given)
    chain = [*above, path]
    if other.resolve() in [each.resolve() for each in chain]:
        circle = " extends ".join(map(str, [*chain, other]))
        raise ScenarioError(f"{path}: extends: {circle}, a circle: remove one of them")
    base: Mapping[str, Any] = read_scenario(other, chain)
    with prefix_errors(path):
        return dict(assign_all(base, dict(_leaves(mapping))))


def _leaves(mapping: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a scenario that extends another, with dots; `grid` by key, what else says its combinations whole."""
    for key, value in mapping.items():
        place = f"{above}{key}"
        inner = isinstance(value, Mapping) and value and "name" not in value and place not in OF_COMBINATIONS - {"grid"}
        if inner and not above.startswith("grid."):
            yield from _leaves(value, f"{place}.")
        else:
            yield place, value


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
    if key in OF_COMBINATIONS:
        return {**raw, key: value}
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
        return put(_settled(raw, key, value), key, value)
    return {**raw, "grid": {**(raw.get("grid") or {}), swept: value}}


def _settled(raw: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A scenario whose `zip`, `when`, `exclude` and `include` no more vary a key that has one value for all runs."""

    def without(keys: Any) -> dict[str, Any]:
        return {each: values for each, values in keys.items() if not _decides(key, each)}

    def asked(pattern: Any) -> dict[str, Any] | None:
        """The rest of the pattern; None where the value is not one that it asks for."""
        kept = without(pattern)
        return kept if matches({key: value}, {k: v for k, v in pattern.items() if k not in kept}) else None

    def listed(name: str) -> list[Any]:
        held = raw.get(name) or []
        return [held] if isinstance(held, Mapping) else [*held]

    made = dict(raw)
    if not all(isinstance(each, Mapping) for name in OF_COMBINATIONS - {"grid"} for each in listed(name)):
        # no list of mappings: parsing says so
        return made
    made["zip"] = [kept for group in listed("zip") if (kept := without(group))]
    made["include"] = [kept for each in listed("include") if (kept := without(each))]
    made["exclude"] = [kept for each in listed("exclude") if (kept := asked(each))]
    made["when"] = []
    for each in listed("when"):
        where, grid = each.get("where"), each.get("grid")
        if not isinstance(where, Mapping) or not isinstance(grid, Mapping):
            return dict(raw)
        if (kept := asked(where)) is None or not (further := without(grid)):
            continue
        if kept:
            made["when"].append({**each, "where": kept, "grid": further})
        else:
            # true of all combinations
            made["grid"] = {**(made.get("grid") or {}), **further}
    return {name: held for name, held in made.items() if held or name not in OF_COMBINATIONS or name == "grid"}


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
    for key in sorted(values, key=lambda key: (key.partition(".")[0] in OF_COMBINATIONS, put_order(key))):
        raw = assign(raw, key, values[key], description)
    return raw


def _decides(key: str, other: str) -> bool:
    """Tells whether a value for `key` also sets `other`."""
    return other == key or other.startswith(f"{key}.") or key == f"{other}.name"
