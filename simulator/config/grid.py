"""Studies expanded to all their combinations of values at dotted keys."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from byzax.simulator.config.base import parse_as
from byzax.simulator.config.combinations import combinations
from byzax.simulator.config.dotted_keys import put, put_order, unknown_key
from byzax.simulator.config.study import Study
from byzax.simulator.config.triggers import with_floors
from byzax.simulator.mistakes import (
    MOST_MISTAKES,
    Impossible,
    ScenarioError,
    choices_in_words,
    join_lines,
    prefix_errors,
    shorten,
)

# Keys that a grid cannot sweep.
NOT_SWEPT = {"name", "grid", "zip", "when", "exclude", "include", "repeats", "report", "skip_impossible"}
# Keys of a study that say which combinations it has.
OF_COMBINATIONS = {"grid", "zip", "when", "exclude", "include"}
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
    plain = {key: value for key, value in study.given().items() if key not in OF_COMBINATIONS}
    _check_keys(study)
    all_choices = combinations(
        study.grid, study.zip, study.when, study.exclude, study.include, study.repeats, MOST_RUNS
    )
    cells: list[Cell] = []
    mistakes: list[tuple[ScenarioError, dict[str, Any]]] = []
    for choices in all_choices:
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


def _check_keys(study: Study) -> None:
    """Raises ScenarioError, one line for each key of the combinations that cannot be swept, or stands twice."""
    places: list[tuple[str, Mapping[str, Any]]] = [("grid", study.grid)]
    places += [(_place("zip", at, study.zip), group) for at, group in enumerate(study.zip)]
    swept = {key: place for place, keys in reversed(places) for key in keys}
    wrong = [
        f"{place}.{shorten(key)}: is in {swept[key]} too: remove it from one of them"
        for place, keys in places
        for key in keys
        if swept[key] != place
    ]
    places += [(f"{_place('when', at, study.when)}.grid", each.grid) for at, each in enumerate(study.when)]
    single = [(_place("include", at, study.include), each) for at, each in enumerate(study.include)]
    wrong += [
        f"{place}.{shorten(key)}: {said}"
        for place, keys in [*places, *single]
        for key in keys
        if (said := _not_swept(key) or unknown_key(key))
    ]
    wrong += _conflicting_keys({key: values for _, keys in places for key, values in keys.items()})
    if wrong:
        raise ScenarioError(join_lines(wrong))


def _place(key: str, at: int, among: Sequence[Any]) -> str:
    """The place of an item in messages."""
    return f"{key}[{at}]" if len(among) > 1 else key


def _conflicting_keys(grid: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yields a line for each key of a grid that another swept key decides too."""
    for key, values in grid.items():
        for inner in [each for each in grid if each.startswith(f"{key}.")]:
            field = inner.removeprefix(f"{key}.").partition(".")[0]
            if field == "name" or any(isinstance(value, Mapping) and field in value for value in values):
                yield f"grid.{inner}: grid.{key} chooses {inner} too: sweep one of them"


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
