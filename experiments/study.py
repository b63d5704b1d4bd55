"""From a scenario file to its runs: overrides, the grid, and every check that can be made before anything starts."""

import difflib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from byzax.experiments.building import assemble, build, possible
from byzax.experiments.names import said_of
from byzax.experiments.strict_yaml import parse_text, read_mapping
from byzax.experiments.triggers import with_floors
from byzax.simulator import interrupts
from byzax.simulator.data.base import DataError
from byzax.simulator.mistakes import LONGEST_VALUE, MOST_MISTAKES, Impossible, ScenarioError, cut, shown, together
from byzax.simulator.parts import SHARED
from byzax.simulator.scenario import Scenario, parse

# A run has one name; the grid does not nest; another number of repeats is not another experiment.
NOT_SWEPT = {"name", "grid", "repeats", "skip_impossible"}
# Runs of a study: far more than anybody waits for.
MOST_RUNS = 100_000


class Cell(NamedTuple):
    """One combination of the grid: the value chosen for each swept key, and the scenario it gives (without a grid)."""

    choices: dict[str, Any]
    scenario: Scenario


class Skipped(NamedTuple):
    """A combination of the grid that `skip_impossible` leaves out: its choices, and why it cannot be."""

    choices: dict[str, Any]
    reason: str


class Study(NamedTuple):
    """A scenario file: `raw`, the mapping as written with the overrides; `base`, what it describes; its cells.

    `skipped`: the combinations of its grid that are impossible, where `skip_impossible` leaves these out.
    """

    path: Path
    raw: dict[str, Any]
    base: Scenario
    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...] = ()


def load(path: Path, overrides: Sequence[str] = (), raw: Mapping[str, Any] | None = None) -> Study:
    """The study of a file, with overrides `key=value` applied; every cell is parsed and nothing is built yet.

    Args:
        path: The file.
        overrides: Texts `key=value`, applied in this order.
        raw: The mapping that the file holds, where it was read already.

    Raises:
        ScenarioError: One line for each mistake, each beginning with the file's name.
    """
    mapping = dict(read_mapping(path) if raw is None else raw)
    with prefixed(path):
        for text in overrides:
            mapping = override(mapping, text)
        base = parse(mapping)
        cells, skipped = expand(mapping)
        if not cells:
            raise ScenarioError(f"grid: every combination is impossible, such as: {skipped[0].reason}")
        return Study(path, mapping, base, tuple(cells), tuple(skipped))


@contextmanager
def prefixed(path: Path) -> Iterator[None]:
    """Puts the file's name before every line of a ScenarioError from inside."""
    try:
        yield
    except ScenarioError as error:
        raise type(error)("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def override(raw: dict[str, Any], text: str, description: type[BaseModel] = Scenario) -> dict[str, Any]:
    """The mapping with `key=value` set: a dotted key, a value in YAML. Setting a key ends a sweep over it.

    `description` is what the mapping describes.

    >>> override({"rule": "krum", "grid": {"rule.name": ["krum", "median"]}}, "rule.name=bulyan")
    {'rule': {'name': 'bulyan'}, 'grid': {}}
    >>> override({"rule": "krum"}, "grid.workers.byzantine=[1, 2]")
    {'rule': 'krum', 'grid': {'workers.byzantine': [1, 2]}}
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        example = "steps=50" if "steps" in description.model_fields else "samples=50"
        raise ScenarioError(f"--set {cut(text)}: key=value is needed, such as --set {example}")
    whole, item, _ = key.partition("[")
    if item:
        raise ScenarioError(f"--set {key}: a list is set whole: --set '{whole}=[...]', or change it in the file")
    chosen = parse_text(value, f"--set {cut(key)}")
    if "grid" not in description.model_fields:
        return put(raw, key, chosen, description)
    if key == "grid":
        return raw | {"grid": chosen}
    swept = key.removeprefix("grid.")
    sweeps = raw.get("grid")
    if isinstance(sweeps, dict):
        above = [each for each in sweeps if swept.startswith(f"{each}.") and swept != f"{each}.name"]
        if above:
            raise ScenarioError(
                f"--set {key}: grid.{above[0]} chooses all of {above[0]}: set grid.{above[0]} or {above[0]} instead"
            )
        kept = {each: values for each, values in sweeps.items() if each == swept != key or not _decides(swept, each)}
        raw = raw | {"grid": kept}
    if key == swept:
        return put(raw, key, chosen)
    return raw | {"grid": (raw.get("grid") or {}) | {swept: chosen}}


def _decides(key: str, other: str) -> bool:
    """Whether a value for `key` leaves nothing to choose for `other`."""
    return other == key or other.startswith(f"{key}.") or key == f"{other}.name"


def put(mapping: Mapping[str, Any], key: str, value: Any, description: type[BaseModel] = Scenario) -> dict[str, Any]:
    """The mapping with `value` at the dotted key.

    A component takes its bare name or a mapping. A new name replaces the whole component: options written for another
    name do not carry over, but the settings that all data sets share do.

    >>> put({"rule": {"name": "krum", "distance": "plain"}}, "rule.name", "median")
    {'rule': {'name': 'median'}}
    >>> put({"rule": "krum"}, "rule.distance", "plain")
    {'rule': {'name': 'krum', 'distance': 'plain'}}
    """
    return _put(mapping, key.split("."), value, "", description)


def _put(
    mapping: Mapping[str, Any], path: list[str], value: Any, above: str, description: type[BaseModel]
) -> dict[str, Any]:
    head, *rest = path
    place = f"{above}{head}"
    known = _keys(description)
    component = f"{place}.name" in known
    old = mapping.get(head, known.get(place))
    inside = {"name": old} if isinstance(old, str) and component else old
    if rest == ["name"] and component:
        same = isinstance(inside, dict) and inside.get("name") == value
        new = inside if same else {"name": value, **_shared(place, inside)}
    elif rest:
        if inside is not None and not isinstance(inside, dict):
            raise ScenarioError(f"{place}.{'.'.join(rest)}: unknown key; {place} is {shown(inside)} and has no keys")
        new = _put(inside or {}, rest, value, f"{place}.", description)
    elif component and isinstance(value, (str, dict)):
        chosen = {"name": value} if isinstance(value, str) else value
        new = chosen | {field: kept for field, kept in _shared(place, inside).items() if field not in chosen}
    else:
        new = value
    return {**mapping, head: new}


def _shared(place: str, inside: Any) -> dict[str, Any]:
    if not isinstance(inside, dict):
        return {}
    return {field: value for field, value in inside.items() if field in SHARED.get(place, ())}


@cache
def _keys(description: type[BaseModel] = Scenario) -> dict[str, Any]:
    """Every dotted key of a description, with the name that a component has where none is given."""
    return dict(_walk(description, ""))


def _walk(description: type[BaseModel], above: str) -> Iterator[tuple[str, Any]]:
    for name, field in description.model_fields.items():
        default = getattr(field.default, "name", field.default)
        yield f"{above}{name}", default if isinstance(default, str) else None
        for member in {*_descriptions(field.annotation)}:
            yield from _walk(member, f"{above}{name}.")


def _descriptions(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _descriptions(argument)


def _is_component(place: str) -> bool:
    return f"{place}.name" in _keys()


def expand(raw: Mapping[str, Any]) -> tuple[list[Cell], list[Skipped]]:
    """Every combination of the grid, in the order written, the last key changing fastest; and those to be left out.

    Raises ScenarioError for a key that does not exist, for too many runs, for each cell that is no scenario (unless it
    is impossible and `skip_impossible` is true), and for two equal cells.
    """
    grid = dict(raw.get("grid") or {})
    plain = {key: value for key, value in raw.items() if key != "grid"}
    known = [key for key in _keys() if key not in NOT_SWEPT]
    wrong = [f"grid.{cut(key)}: {_unknown(key, known)}" for key in grid if key not in known] or [*_contested(grid)]
    # before any of them is made
    count, repeats = math.prod(map(len, grid.values())), raw.get("repeats", 1)
    if count * repeats > MOST_RUNS:
        times = f", {repeats} repeats of each," if repeats > 1 else ""
        wrong.append(
            f"grid: {count} combinations{times} are too many: at most {MOST_RUNS} runs in all; take fewer values, or "
            "share them among several files"
        )
    if wrong:
        raise ScenarioError(together(wrong))
    cells: list[Cell] = []
    mistakes: list[tuple[ScenarioError, dict[str, Any]]] = []
    for values in itertools.product(*grid.values()):
        choices = dict(zip(grid, values, strict=True))
        try:
            mapping: Mapping[str, Any] = plain
            for key in sorted(choices, key=turn):
                mapping = put(mapping, key, choices[key])
            cells.append(Cell(choices, parse(mapping)))
        except ScenarioError as error:
            mistakes.append((error, choices))
            if len(mistakes) >= MOST_MISTAKES and not raw.get("skip_impossible"):
                break
    skipped = _skipped(mistakes, bool(raw.get("skip_impossible")))
    measured = with_floors([cell.scenario for cell in cells])
    cells = [cell._replace(scenario=scenario) for cell, scenario in zip(cells, measured, strict=True)]
    first: dict[tuple[str, int], Cell] = {}
    for cell in cells:
        described = cell.scenario.model_copy(update={"seed": 0}).model_dump_json()
        for seed in cell.scenario.seeds:
            twin = first.setdefault((described, seed), cell)
            if twin is not cell:
                said = " and ".join(dict.fromkeys((said_of(twin.choices), said_of(cell.choices))))
                raise ScenarioError(f"grid: the same run twice: {said}, seed {seed}; remove one")
    return cells, skipped


def _unknown(key: str, known: list[str]) -> str:
    if key in NOT_SWEPT:
        return "this key cannot be swept" + ("; for more seeds use repeats" if key == "repeats" else "")
    near = difflib.get_close_matches(key[:LONGEST_VALUE], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(k for k in known if '.' not in k)}"
    return f"unknown key; {hint}"


def _contested(grid: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """A line for each key of a grid that another key leaves nothing to choose, or decides too."""
    for key, values in grid.items():
        for inner in [each for each in grid if each.startswith(f"{key}.")]:
            field = inner.removeprefix(f"{key}.").partition(".")[0]
            if field == "name" or any(isinstance(value, Mapping) and field in value for value in values):
                yield f"grid.{inner}: grid.{key} chooses {inner} too: sweep one of them"


def turn(key: str) -> tuple[int, int]:
    """When the value of a key is put into a mapping: those with the smallest first."""
    # a name decides which other keys there are inside, a whole component decides the name
    return key.removesuffix(".name").count("."), 0 if _is_component(key) else 1 if key.endswith(".name") else 2


def assembled(study: Study) -> Study:
    """The study, after a look at what can be seen within a second or two: numbers such as n and f, and missing data.

    Gives and raises what `check` does, which looks at the rest.
    """
    return _looked_at(_looked_at(study, possible), assemble)


def check(study: Study) -> Study:
    """Builds and traces every part of every cell, for each seed, without running anything.

    Gives the study without the cells that are impossible, where `skip_impossible` leaves these out. Raises
    ScenarioError with one line for each mistake and a run in which it shows.
    """
    return _looked_at(study, build)


def _looked_at(study: Study, look: Callable[[Scenario], Any]) -> Study:
    mistakes: list[tuple[ScenarioError, dict[str, Any]]] = []
    possible: list[Cell] = []
    skip = study.base.skip_impossible
    for cell in study.cells:
        interrupts.check()
        try:
            look(cell.scenario)
            possible.append(cell)
        except ScenarioError as error:
            mistakes.append((error, cell.choices))
            # every cell would try again to download what is not there
            if isinstance(error.__cause__, DataError) or (len(mistakes) >= MOST_MISTAKES and not skip):
                break
    with prefixed(study.path):
        skipped = (*study.skipped, *_skipped(mistakes, skip))
        if not possible:
            raise ScenarioError(f"grid: every combination is impossible, such as: {skipped[0].reason}")
    return study._replace(cells=tuple(possible), skipped=skipped)


def _skipped(mistakes: Iterable[tuple[ScenarioError, dict[str, Any]]], skip: bool) -> list[Skipped]:
    """The cells that are to be left out. Raises one ScenarioError for the others, where there are any."""
    left_out: list[Skipped] = []
    wrong: list[tuple[str, dict[str, Any]]] = []
    for error, choices in mistakes:
        lines = str(error).splitlines()
        if skip and choices and isinstance(error, Impossible):
            left_out.append(Skipped(choices, " and ".join(lines)))
        else:
            wrong += [(line, choices) for line in lines]
    _raise(wrong)
    return left_out


def skipped_lines(skipped: Iterable[tuple[str, str]]) -> list[str]:
    """Lines about combinations that were left out, one for each reason; `skipped`: combinations and reasons.

    >>> skipped_lines([("f=2", "n is 5"), ("f=3", "n is 5")])
    ['skipped: n is 5 (2 combinations, such as f=2)']
    """
    found: dict[str, list[str]] = {}
    for combination, reason in skipped:
        found.setdefault(reason, []).append(combination)
    return [
        f"skipped: {reason} ({f'{len(names)} combinations, such as ' if len(names) > 1 else ''}{names[0]})"
        for reason, names in found.items()
    ]


def _raise(mistakes: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Raises one ScenarioError with each different mistake once, and a run in which it was found."""
    found = list(mistakes)
    if not found:
        return
    often, first = Counter(line for line, _ in found), dict(reversed(found))
    lines = []
    for line, count in often.items():
        where = said_of(first[line])
        more = " and more" if len(found) >= MOST_MISTAKES else ""
        runs = f" (in {count}{more} runs, such as {where})" if count > 1 else f" (in the run {where})"
        lines.append(line + (runs if where else ""))
    raise ScenarioError(together(lines))
