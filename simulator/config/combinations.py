"""The combinations of a study: of a grid, of values that go together, with further ones, without some.

In the order in which they are made: `grid` (all combinations) and `zip` (values that go together), `when` (values of
keys that some combinations alone have), `exclude` (combinations that are left out), `include` (single ones besides).
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, Strict, ValidationError, WithJsonSchema, model_validator

from byzax.simulator.config.base import Description
from byzax.simulator.mistakes import ScenarioError, choices_in_words, shorten

# Most values of a range.
MOST_VALUES = 10_000


class Range(BaseModel, frozen=True, extra="forbid", strict=True):
    """Values at equal distances or ratios, in place of a list."""

    first: float | int = Field(alias="from", description="The first value.")
    last: float | int = Field(alias="to", description="The last value, where the steps meet it.")
    step: float | int | None = Field(default=None, gt=0, description="Distance; by default 1, unless `count` is given.")
    count: int | None = Field(default=None, ge=2, le=MOST_VALUES, description="Number of values, both ends included.")
    scale: Literal["linear", "log"] = Field(default="linear", description="log: equal ratios; it needs `count`.")

    @model_validator(mode="after")
    def _sensible(self) -> "Range":
        if not (math.isfinite(self.first) and math.isfinite(self.last)):
            raise ValueError("from and to must be finite")
        if self.last < self.first:
            raise ValueError(f"to must be at least from, got {self.last} below {self.first}")
        if self.step is not None and self.count is not None:
            raise ValueError("step and count: give one of them")
        if self.scale == "log" and (self.count is None or self.first <= 0):
            raise ValueError("scale: log needs count, and from above 0")
        if self.count is None and (self.last - self.first) / (self.step or 1) >= MOST_VALUES:
            raise ValueError(f"these are more than {MOST_VALUES} values: take a larger step")
        return self

    def values(self) -> tuple[float | int, ...]:
        """The values: whole numbers where `from` and `step` are."""
        if self.count is not None:
            share = [place / (self.count - 1) for place in range(self.count)]
            if self.scale == "log":
                ratio = self.last / self.first
                made = [_tidy(self.first * ratio**each) for each in share]
            else:
                made = [_tidy(self.first + (self.last - self.first) * each) for each in share]
            made[0], made[-1] = self.first, self.last
            whole = all(isinstance(each, int) or each.is_integer() for each in made)
            return tuple(int(each) for each in made) if whole and isinstance(self.first, int) else tuple(made)
        step = 1 if self.step is None else self.step
        number = math.floor((self.last - self.first) / step * (1 + 1e-12)) + 1
        made = [self.first + place * step for place in range(number)]
        return tuple(each if isinstance(each, int) else _tidy(each) for each in made)


def _tidy(value: float) -> float:
    """A number without the digits that adding up made: 0.3 and not 0.30000000000000004."""
    return float(f"{value:.12g}")


def _as_values(given: Any) -> Any:
    """The values of a list, or of a range in its place."""
    if not isinstance(given, Mapping):
        return given
    try:
        return Range.model_validate(dict(given)).values()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        said = str(first["msg"]).removeprefix("Value error, ")
        way_out = "a list of values is needed, or a range such as {from: 1, to: 4}"
        raise ValueError(f"{f'{where}: ' if where else ''}{said[0].lower()}{said[1:]}: {way_out}") from None


Values = Annotated[
    tuple[Any, ...],
    Field(min_length=1),
    Strict(False),
    BeforeValidator(_as_values),
    WithJsonSchema({"anyOf": [{"type": "array", "minItems": 1, "items": {}}, Range.model_json_schema()]}),
]
Grid = dict[str, Values]
# Values by dotted key; of `exclude` and `where` one, or a list of which any one may match.
Pattern = dict[str, Any]

Item = TypeVar("Item")
# One of them, or a list.
ListOf = Annotated[
    tuple[Item, ...], Strict(False), BeforeValidator(lambda given: (given,) if isinstance(given, Mapping) else given)
]


class FurtherSweep(Description, frozen=True):
    """Keys that are swept in some combinations alone."""

    where: Pattern = Field(
        min_length=1,
        description="The combinations: dotted key to a value, or to a list of which one must be the key's.",
    )
    grid: Grid = Field(min_length=1, description="Dotted key to list of values, as of `grid`, for what matches.")


def combinations(
    grid: Mapping[str, Sequence[Any]],
    together: Sequence[Mapping[str, Sequence[Any]]],
    conditions: Sequence[FurtherSweep],
    excluded: Sequence[Mapping[str, Any]],
    included: Sequence[Mapping[str, Any]],
    repeats: int,
    most: int,
) -> list[dict[str, Any]]:
    """The combinations of a study, each the value of its keys.

    Args:
        grid: As of `Study`, with ranges as lists.
        together: The groups of `zip`.
        conditions: The conditions of `when`, in order: a later one may ask for a key of an earlier one.
        excluded: The patterns of `exclude`.
        included: The combinations of `include`.
        repeats: Runs of each.
        most: Largest number of runs.

    Returns:
        The combinations, in the order written, the last key changing fastest.

    Raises:
        ScenarioError: For lists of different lengths in `zip`, more runs than `most`, a condition or a pattern
            that no combination matches, and for a study without a combination.
    """
    wrong = [
        f"zip: values that go together are as many for each key, got {_lengths(group)}: make the lists equally long"
        for group in together
        if len({len(values) for values in group.values()}) > 1
    ]
    if wrong:
        raise ScenarioError("\n".join(wrong))
    axes = [[{key: value} for value in values] for key, values in grid.items()]
    axes += [[dict(zip(group, row, strict=True)) for row in zip(*group.values(), strict=True)] for group in together]
    _check_number(math.prod(map(len, axes)), repeats, most)
    chosen = [_joined(parts) for parts in itertools.product(*axes)]
    for place, each in enumerate(conditions):
        chosen = list(_swept_further(chosen, each, f"when[{place}]", repeats, most))
    for place, pattern in enumerate(excluded):
        left = [each for each in chosen if not matches(each, pattern)]
        if len(left) == len(chosen):
            words = choices_in_words(dict(pattern))
            raise ScenarioError(
                f"exclude[{place}]: no combination has {words} among the keys that it sweeps: remove it"
            )
        chosen = left
    if not grid and not together and included:
        # without a grid `include` lists the combinations
        chosen = [each for each in chosen if each]
    chosen += [dict(each) for each in included]
    _check_number(len(chosen), repeats, most)
    if not chosen:
        raise ScenarioError("exclude: leaves no combination: remove a pattern")
    return chosen


def matches(choices: Mapping[str, Any], pattern: Mapping[str, Any]) -> bool:
    """Tells whether a combination has the values of a pattern.

    Args:
        choices: The value of each key.
        pattern: A value, or a list of values, for each key. A key `rule.name` also asks for the name of a `rule`.

    Returns:
        True where each key has the value, or one of the list.
    """
    return all(_has(choices, key, wanted) for key, wanted in pattern.items())


def _has(choices: Mapping[str, Any], key: str, wanted: Any) -> bool:
    found = [choices[key]] if key in choices else [*_inside(choices, key)]
    if not found:
        return False
    value = _by_name(found[0])
    allowed = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    return any(_by_name(each) == value for each in (wanted, *allowed))


def _by_name(value: Any) -> Any:
    """The name of a part without options, however it is written; any other value as it is."""
    return value["name"] if isinstance(value, Mapping) and set(value) == {"name"} else value


def _inside(choices: Mapping[str, Any], key: str) -> Iterator[Any]:
    """The value of a key inside a value that is chosen whole: rule.name of rule: krum."""
    outer, _, field = key.rpartition(".")
    if outer in choices:
        whole = choices[outer]
        if isinstance(whole, Mapping):
            if field in whole:
                yield whole[field]
        elif field == "name":
            yield whole


def _swept_further(
    chosen: Iterable[dict[str, Any]], condition: FurtherSweep, place: str, repeats: int, most: int
) -> Iterator[dict[str, Any]]:
    found = 0
    number = 0
    for each in chosen:
        if not matches(each, condition.where):
            further: Iterable[tuple[Any, ...]] = [()]
        else:
            found += 1
            if known := [key for key in condition.grid if key in each]:
                raise ScenarioError(f"{place}.grid.{shorten(known[0])}: is swept already: remove it from one of them")
            further = itertools.product(*condition.grid.values())
        for values in further:
            number += 1
            _check_number(number, repeats, most)
            yield {**each, **dict(zip(condition.grid, values, strict=False))} if values else each
    if not found:
        raise ScenarioError(
            f"{place}.where: no combination has {choices_in_words(dict(condition.where))}: ask for values that are in "
            "the grid"
        )


def _joined(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def _check_number(number: int, repeats: int, most: int) -> None:
    if number * repeats > most:
        times = f", {repeats} repeats of each," if repeats > 1 else ""
        raise ScenarioError(
            f"grid: {number} combinations{times} are too many: at most {most} runs in all; take fewer values, or "
            "share them among several files"
        )


def _lengths(group: Mapping[str, Sequence[Any]]) -> str:
    return " and ".join(f"{len(values)} of {shorten(key)}" for key, values in group.items())
