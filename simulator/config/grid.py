"""Grids: a mapping with other values at dotted keys, and all combinations of them."""

import difflib
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from byzax.members import PluginError
from byzax.options import PartError
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.part import Choice, choice_of
from byzax.simulator.config.study import Study
from byzax.simulator.config.triggers import with_floors
from byzax.simulator.mistakes import (
    LONGEST_VALUE,
    MOST_MISTAKES,
    Impossible,
    ScenarioError,
    choices_in_words,
    join_lines,
    quote,
    shorten,
)

# A run has one name; the grid does not nest; another number of repeats is not another experiment.
NOT_SWEPT = {"name", "grid", "repeats", "skip_impossible"}
# Runs of a study: far more than anybody waits for.
MOST_RUNS = 100_000


class Cell(NamedTuple):
    """One combination of a grid: the value chosen for each swept key, and the study that it gives, without a grid."""

    choices: dict[str, Any]
    study: Study


class Skipped(NamedTuple):
    """A combination of a grid that `skip_impossible` leaves out: its choices, and why it cannot be."""

    choices: dict[str, Any]
    reason: str


class Expansion(NamedTuple):
    """A study and all combinations of its grid.

    Attributes:
        study: As described.
        cells: The combinations that can be run.
        skipped: Those that `skip_impossible` leaves out.
        source: What messages begin with, such as the name of the file; empty for a study made in Python.
    """

    study: Study
    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...] = ()
    source: str = ""

    def without(self, mistakes: "Iterable[tuple[ScenarioError, Cell]]") -> "Expansion":
        """The expansion without cells that turned out to be impossible, where `skip_impossible` leaves these out.

        Raises:
            ScenarioError: One line for each mistake and a run in which it shows; or where no cell is left.
        """
        found = list(mistakes)
        with prefix_errors(self.source):
            skip = self.study.skip_impossible
            skipped = (*self.skipped, *skip_impossible([(error, cell.choices) for error, cell in found], skip))
            wrong = [id(cell) for _, cell in found]
            cells = tuple(cell for cell in self.cells if id(cell) not in wrong)
            if not cells:
                raise ScenarioError(f"grid: every combination is impossible, such as: {skipped[0].reason}")
        return self._replace(cells=cells, skipped=skipped)


@contextmanager
def prefix_errors(source: str | Path) -> Iterator[None]:
    """Puts a source, such as the name of a file, before every line of a ScenarioError from inside."""
    try:
        yield
    except ScenarioError as error:
        if not str(source):
            raise
        raise type(error)("\n".join(f"{source}: {line}" for line in str(error).splitlines())) from None


def put(mapping: Mapping[str, Any], key: str, value: Any, description: type[BaseModel] = Study) -> dict[str, Any]:
    """The mapping with `value` at the dotted key.

    A part takes its bare name or a mapping. A new name replaces the whole part: options written for another name do
    not carry over, but the settings that all parts of the kind share do.

    >>> put({"rule": {"name": "krum", "distance": "plain"}}, "rule.name", "median")
    {'rule': {'name': 'median'}}
    >>> put({"rule": "krum"}, "rule.distance", "plain")
    {'rule': {'name': 'krum', 'distance': 'plain'}}
    """
    return _put(mapping, key.split("."), value, "", description)


def _put(
    mapping: Mapping[str, Any], path: list[str], value: Any, above: str, description: type[BaseModel] | None
) -> dict[str, Any]:
    head, *rest = path
    place = f"{above}{head}"
    field = description.model_fields.get(head) if description else None
    choice = choice_of(field.annotation, field.metadata) if field else None
    old = mapping.get(head, _default_name(field.default) if field else None)
    inside = {"name": old} if choice and (isinstance(old, str) or callable(old)) else old
    kept = {key: each for key, each in inside.items() if key in _shared(choice)} if isinstance(inside, dict) else {}
    if rest == ["name"] and choice:
        same = isinstance(inside, dict) and inside.get("name") == value
        new = inside if same else {"name": value, **kept}
    elif rest:
        if inside is not None and not isinstance(inside, dict):
            raise ScenarioError(f"{place}.{'.'.join(rest)}: unknown key; {place} is {quote(inside)} and has no keys")
        inner = _chosen(choice, inside) if choice else _description(field.annotation) if field else None
        new = _put(inside or {}, rest, value, f"{place}.", inner)
    elif choice and (isinstance(value, (str, dict)) or callable(value)):
        chosen = value if isinstance(value, dict) else {"name": value}
        new = {**chosen, **{key: each for key, each in kept.items() if key not in chosen}}
    else:
        new = value
    return {**mapping, head: new}


def _default_name(default: Any) -> str | None:
    name = getattr(default, "name", default)
    return name if isinstance(name, str) else None


def _shared(choice: Any) -> set[str]:
    """The settings that a part keeps when its name changes."""
    return set(choice.base.model_fields) - {"name"} if isinstance(choice, Choice) else set()


def _chosen(choice: Any, inside: Any) -> type[BaseModel] | None:
    """The description of a part that a mapping names; None where there is none, which is said when it is parsed."""
    try:
        return choice.type_of((inside or {}).get("name"))
    except (PartError, PluginError):
        return choice.base if isinstance(choice, Choice) else None


def _description(annotation: Any) -> type[BaseModel] | None:
    """The description that a field holds, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_description, get_args(annotation))), None)


def unknown_key(key: str, description: type[BaseModel] = Study) -> str:
    """What is wrong with a dotted key: nothing where it can be one of the description.

    Options of parts depend on the part that is chosen, and are looked at when the mapping is parsed.
    """
    place: type[BaseModel] | None = description
    known: list[str] = []
    above = ""
    for part in key.split("."):
        if place is None:
            return f"unknown key; {above.removesuffix('.')} has no keys"
        known = [f"{above}{name}" for name in place.model_fields]
        field = place.model_fields.get(part)
        if field is None:
            break
        choice = choice_of(field.annotation, field.metadata)
        if isinstance(choice, Choice):
            rest = key.removeprefix(f"{above}{part}").removeprefix(".").partition(".")[0]
            if rest not in choice.base.model_fields:
                return ""
            place = choice.base
        elif choice:
            return ""
        else:
            place = _description(field.annotation)
        above += f"{part}."
    else:
        return ""
    near = difflib.get_close_matches(key[:LONGEST_VALUE], known, n=1)
    return f"unknown key; {f'did you mean {near[0]!r}?' if near else f'known: {chr(44).join(known)}'}"


def expand(study: Study, source: str = "") -> Expansion:
    """Every combination of the grid, in the order written, the last key changing fastest.

    Args:
        study: As described; without a grid there is one cell.
        source: What messages begin with, such as the name of the file.

    Raises:
        ScenarioError: For a key that does not exist, for too many runs, for each cell that is no scenario (unless it is
            impossible and `skip_impossible` is true), and for two equal cells.
    """
    with prefix_errors(source):
        cells, skipped = _expand(study)
        if not cells:
            raise ScenarioError(f"grid: every combination is impossible, such as: {skipped[0].reason}")
    return Expansion(study, tuple(cells), tuple(skipped), source)


def _expand(study: Study) -> tuple[list[Cell], list[Skipped]]:
    grid = dict(study.grid)
    plain = {key: value for key, value in study.given().items() if key != "grid"}
    wrong = [f"grid.{shorten(key)}: {said}" for key in grid if (said := _not_swept(key) or unknown_key(key))]
    wrong += _conflicting_keys(grid)
    # before any of them is made
    count, repeats = math.prod(map(len, grid.values())), study.repeats
    if count * repeats > MOST_RUNS:
        times = f", {repeats} repeats of each," if repeats > 1 else ""
        wrong.append(
            f"grid: {count} combinations{times} are too many: at most {MOST_RUNS} runs in all; take fewer values, or "
            "share them among several files"
        )
    if wrong:
        raise ScenarioError(join_lines(wrong))
    cells: list[Cell] = []
    mistakes: list[tuple[ScenarioError, dict[str, Any]]] = []
    for values in itertools.product(*grid.values()):
        choices = dict(zip(grid, values, strict=True))
        try:
            mapping: Mapping[str, Any] = plain
            for key in sorted(choices, key=put_order):
                mapping = put(mapping, key, choices[key])
            cells.append(Cell(choices, parse_as(Study, mapping)))
        except ScenarioError as error:
            mistakes.append((error, choices))
            if len(mistakes) >= MOST_MISTAKES and not study.skip_impossible:
                break
    skipped = skip_impossible(mistakes, study.skip_impossible)
    measured = with_floors([cell.study for cell in cells])
    cells = [cell._replace(study=each) for cell, each in zip(cells, measured, strict=True)]
    first: dict[Any, Cell] = {}
    for cell in cells:
        task = cell.study.task
        same = task._replace(run=task.run.replace(seed=0), seeds=())
        for seed in task.seeds:
            twin = first.setdefault((same, seed), cell)
            if twin is not cell:
                said = " and ".join(dict.fromkeys((choices_in_words(twin.choices), choices_in_words(cell.choices))))
                raise ScenarioError(f"grid: the same run twice: {said}, seed {seed}; remove one")
    return cells, skipped


def _not_swept(key: str) -> str:
    if key not in NOT_SWEPT:
        return ""
    return "this key cannot be swept" + ("; for more seeds use repeats" if key == "repeats" else "")


def _conflicting_keys(grid: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """A line for each key of a grid that another key leaves nothing to choose, or decides too."""
    for key, values in grid.items():
        for inner in [each for each in grid if each.startswith(f"{key}.")]:
            field = inner.removeprefix(f"{key}.").partition(".")[0]
            if field == "name" or any(isinstance(value, Mapping) and field in value for value in values):
                yield f"grid.{inner}: grid.{key} chooses {inner} too: sweep one of them"


def put_order(key: str) -> tuple[int, bool]:
    """When the value of a key is put into a mapping: those with the smallest first."""
    # a name decides which other keys there are inside, a whole part decides the name
    return key.removesuffix(".name").count("."), key.endswith(".name")


def skip_impossible(mistakes: Iterable[tuple[ScenarioError, dict[str, Any]]], skip: bool) -> list[Skipped]:
    """The cells that are to be left out. Raises one ScenarioError for the others, where there are any."""
    found: list[Skipped] = []
    wrong: list[tuple[str, dict[str, Any]]] = []
    for error, choices in mistakes:
        lines = str(error).splitlines()
        if skip and choices and isinstance(error, Impossible):
            found.append(Skipped(choices, " and ".join(lines)))
        else:
            wrong += [(line, choices) for line in lines]
    _raise(wrong)
    return found


def _raise(mistakes: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Raises one ScenarioError with each different mistake once, and a run in which it was found."""
    found = list(mistakes)
    if not found:
        return
    often, first = Counter(line for line, _ in found), dict(reversed(found))
    lines = []
    for line, count in often.items():
        where = choices_in_words(first[line])
        more = " and more" if len(found) >= MOST_MISTAKES else ""
        runs = f" (in {count}{more} runs, such as {where})" if count > 1 else f" (in the run {where})"
        lines.append(line + (runs if where else ""))
    raise ScenarioError(join_lines(lines))
