"""Grids: values at dotted keys of a mapping, and all their combinations."""

import difflib
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from byzax.members import PluginError
from byzax.options import PartError
from byzax.simulator.config.base import parse_as, thaw
from byzax.simulator.config.choices import choice_of
from byzax.simulator.config.part import Choice
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

# Keys that a grid cannot sweep.
NOT_SWEPT = {"name", "grid", "repeats", "skip_impossible"}
# Most runs of a study.
MOST_RUNS = 100_000


class Cell(NamedTuple):
    """One combination of a grid.

    Attributes:
        choices: The value of each swept key.
        study: The study with these values, without a grid.
    """

    choices: dict[str, Any]
    study: Study


class Skipped(NamedTuple):
    """A combination of a grid that `skip_impossible` leaves out.

    Attributes:
        choices: The value of each swept key.
        reason: The reason why it is impossible.
    """

    choices: dict[str, Any]
    reason: str


class Expansion(NamedTuple):
    """A study and all combinations of its grid.

    Attributes:
        study: As described.
        cells: The combinations that can be run.
        skipped: Those that `skip_impossible` leaves out.
        source: The beginning of messages, such as the name of the file; empty for a study made in Python.
    """

    study: Study
    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...] = ()
    source: str = ""

    def without(self, mistakes: "Iterable[tuple[ScenarioError, Cell]]") -> "Expansion":
        """Leaves out cells that turned out to be impossible, where `skip_impossible` is set.

        Args:
            mistakes: Errors of cells, each with its cell.

        Returns:
            The expansion without these cells.

        Raises:
            ScenarioError: One line for each mistake and a run in which it shows; or where no cell is left.
        """
        refused = list(mistakes)
        with prefix_errors(self.source):
            skip = self.study.skip_impossible
            skipped = (*self.skipped, *skip_impossible([(error, cell.choices) for error, cell in refused], skip))
            wrong = [id(cell) for _, cell in refused]
            cells = tuple(cell for cell in self.cells if id(cell) not in wrong)
            if not cells:
                raise ScenarioError(f"grid: every combination is impossible, such as: {skipped[0].reason}")
        return self._replace(cells=cells, skipped=skipped)


@contextmanager
def prefix_errors(source: str | Path) -> Iterator[None]:
    """Prefixes every line of a ScenarioError from inside with its source.

    Args:
        source: Such as the name of a file; empty for no prefix.
    """
    try:
        yield
    except ScenarioError as error:
        if not str(source):
            raise
        raise type(error)("\n".join(f"{source}: {line}" for line in str(error).splitlines())) from None


def put(mapping: Mapping[str, Any], key: str, value: Any, description: type[BaseModel] = Study) -> dict[str, Any]:
    """Puts a value at a dotted key of a mapping.

    A part is a bare name or a mapping. A new name replaces the whole part: options written for another name do not
    carry over, but the settings that all parts of the kind share do.

    Args:
        mapping: The mapping.
        key: The dotted key.
        value: The value; of a grid as a study holds it, frozen.
        description: Class that the mapping describes.

    Returns:
        A copy of the mapping with the value.

    Raises:
        ScenarioError: Where the key goes through a value that has no keys.

    Example:
        >>> put({"rule": {"name": "krum", "distance": "plain"}}, "rule.name", "median")
        {'rule': {'name': 'median'}}
        >>> put({"rule": "krum"}, "rule.distance", "plain")
        {'rule': {'name': 'krum', 'distance': 'plain'}}
    """
    return _put(mapping, key.split("."), thaw(value), "", description)


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
    """The names of the settings that a part keeps when its name changes."""
    return set(choice.base.model_fields) - {"name"} if isinstance(choice, Choice) else set()


def _chosen(choice: Any, inside: Any) -> type[BaseModel] | None:
    """The description of the part that a mapping names; None where there is none, an error when it is parsed."""
    name = (inside or {}).get("name")
    if name is not None:
        with suppress(PartError, PluginError):
            return choice.type_of(name)
    return choice.base if isinstance(choice, Choice) else None


def _description(annotation: Any) -> type[BaseModel] | None:
    """The class of the description that a field holds; None where it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_description, get_args(annotation))), None)


def unknown_key(key: str, description: type[BaseModel] = Study) -> str:
    """Checks that a dotted key can be one of a description.

    Options of parts depend on the part that is chosen, and are checked when the mapping is parsed.

    Args:
        key: The dotted key.
        description: Class of the description.

    Returns:
        The mistake, without the key; empty where there is none.
    """
    place: type[BaseModel] | None = description
    known: list[str] = []
    names: list[str] = []
    above = ""
    for part in key.split("."):
        if place is None:
            return f"unknown key; {above.removesuffix('.')} has no keys"
        known = [f"{above}{name}" for name in place.model_fields]
        names = [f"{above}{name}.name" for name, each in place.model_fields.items() if _chosen_by_name(each)]
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
    near = difflib.get_close_matches(key[:LONGEST_VALUE], [*known, *names], n=1)
    return f"unknown key; {f'did you mean {near[0]!r}?' if near else 'known: ' + ', '.join(known)}"


def _chosen_by_name(field: FieldInfo) -> bool:
    return choice_of(field.annotation, field.metadata) is not None


def expand(study: Study, source: str = "") -> Expansion:
    """Expands a grid to all its combinations, in the order written, the last key changing fastest.

    Args:
        study: As described; without a grid there is one cell.
        source: The beginning of messages, such as the name of the file.

    Returns:
        The expansion.

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
    grid = study.grid
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
    """Yields a line for each key of a grid that another swept key decides too."""
    for key, values in grid.items():
        for inner in [each for each in grid if each.startswith(f"{key}.")]:
            field = inner.removeprefix(f"{key}.").partition(".")[0]
            if field == "name" or any(isinstance(value, Mapping) and field in value for value in values):
                yield f"grid.{inner}: grid.{key} chooses {inner} too: sweep one of them"


def put_order(key: str) -> tuple[int, bool]:
    """The sort key of dotted keys, in the order in which their values are put into a mapping.

    Args:
        key: The dotted key.

    Returns:
        The sort key: outer keys come before inner ones, a name before the options beside it.
    """
    # a name decides which other keys there are inside, a whole part decides the name
    return key.removesuffix(".name").count("."), key.endswith(".name")


def skip_impossible(mistakes: Iterable[tuple[ScenarioError, dict[str, Any]]], skip: bool) -> list[Skipped]:
    """Separates impossible combinations of a grid from other mistakes.

    Args:
        mistakes: Errors of combinations, each with its choices.
        skip: Whether impossible combinations are left out.

    Returns:
        The combinations that are left out.

    Raises:
        ScenarioError: One line for each other mistake.
    """
    skipped: list[Skipped] = []
    wrong: list[tuple[str, dict[str, Any]]] = []
    for error, choices in mistakes:
        lines = str(error).splitlines()
        if skip and choices and isinstance(error, Impossible):
            skipped.append(Skipped(choices, " and ".join(lines)))
        else:
            wrong += [(line, choices) for line in lines]
    _raise(wrong)
    return skipped


def _raise(mistakes: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Raises one ScenarioError with each different mistake once, and a run with it, where there are any."""
    mistake_lines = list(mistakes)
    if not mistake_lines:
        return
    often, first = Counter(line for line, _ in mistake_lines), dict(reversed(mistake_lines))
    lines = []
    for line, count in often.items():
        where = choices_in_words(first[line])
        more = " and more" if len(mistake_lines) >= MOST_MISTAKES else ""
        runs = f" (in {count}{more} runs, such as {where})" if count > 1 else f" (in the run {where})"
        lines.append(line + (runs if where else ""))
    raise ScenarioError(join_lines(lines))
