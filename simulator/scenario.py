"""A scenario: the frozen, strict description of an experiment, the only thing that is written, compared and sent."""

import difflib
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field, Strict, ValidationError, model_validator

from simulator.components import (
    ATTACKS,
    DATA,
    MODELS,
    OPTIMIZERS,
    PARTITIONS,
    PRE,
    RULES,
    SCHEDULES,
    Component,
    Description,
    one_of,
)

Count = Annotated[int, Field(ge=1)]
# Seeds are below this; and so many jobs of one run are planned ahead at most (a few gigabytes).
SEEDS, JOBS = 2**31, 200_000_000

if TYPE_CHECKING:
    Partition: TypeAlias = Component
    Optimizer: TypeAlias = Component
    Rule: TypeAlias = Component
    Pre: TypeAlias = Component
    Attack: TypeAlias = Component
    Model: TypeAlias = Component
    Schedule: TypeAlias = Component
else:
    Partition = one_of("partition", PARTITIONS)
    Optimizer = one_of("optimizer", OPTIMIZERS)
    Rule = one_of("rule", RULES)
    Pre = one_of("pre", PRE)
    Attack = one_of("attack", ATTACKS)
    Model = one_of("model", MODELS)
    Schedule = one_of("schedule", SCHEDULES)


class DataSource(Component, frozen=True):
    """A data set and how the workers share it."""

    partition: Partition = Field(
        default="iid", validate_default=True, description="How training data is split over workers."
    )
    batch_size: Count = Field(default=32, description="Samples a worker draws for one job, with replacement.")
    validation: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the samples (official test samples aside) kept for validation."
    )
    test: float = Field(
        default=0.2,
        gt=0,
        lt=1,
        description="Share of the samples kept for the test, unless the data set has a test set of its own.",
    )


if TYPE_CHECKING:
    Data: TypeAlias = DataSource
else:
    Data = one_of("data", DATA, DataSource)


class Workers(Description, frozen=True):
    """Who takes part. The Byzantine workers are the first ones: ties, which go to the lowest index, favour them."""

    total: Count = Field(default=15, le=100_000, description="Number of workers, n.")
    byzantine: int = Field(default=3, ge=0, description="How many of them really are Byzantine.")
    declared: int = Field(
        default_factory=lambda given: given.get("byzantine", 0),
        ge=0,
        description="What the rule is told, f; by default the real number.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for field in ("byzantine", "declared"):
            if (value := getattr(self, field)) > self.total:
                raise ValueError(f"{field} is {value}, but there are only {self.total} workers (workers.total)")
        return self


class Loop(Description, frozen=True):
    """The reference: one worker after the other in this process; defines the numbers."""

    name: Literal["loop"] = "loop"


class Vectorised(Description, frozen=True):
    """Whole rounds compiled, workers and repeats batched; each update within rtol 1e-5 of `loop`."""

    name: Literal["vectorised"] = "vectorised"


class Ray(Description, frozen=True):
    """Ray actors on a laptop or a cluster; bitwise equal to `loop` unless `batch` is on."""

    name: Literal["ray"] = "ray"
    actors: Literal["auto"] | Count = Field(default="auto", description="Worker actors; auto: one per core or GPU.")
    workers_per_actor: Count | None = Field(
        default=None, description="In place of `actors`: workers that one actor hosts."
    )
    batch: bool = Field(
        default=False, description="Let an actor batch its workers: faster, under the promise of vectorised."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.workers_per_actor is not None and self.actors != "auto":
            raise ValueError("actors and workers_per_actor exclude each other: give one of them")
        return self


EXECUTORS = {"loop": Loop, "vectorised": Vectorised, "ray": Ray}
Executor = Annotated[
    Annotated[Loop | Vectorised | Ray, Field(discriminator="name")],
    BeforeValidator(
        lambda value: {"name": value} if isinstance(value, str) else value,
        json_schema_input_type=Literal["loop", "vectorised", "ray"]
        | Annotated[Loop | Vectorised | Ray, Field(discriminator="name")],
    ),
]


class Scenario(Description, frozen=True):
    """One experiment: a training run for each combination of `grid` and each of `repeats` seeds."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", description="Names the results.")
    seed: int = Field(default=0, ge=0, lt=SEEDS, description="Seed of the first repeat.")
    steps: Count = Field(default=200, le=10_000_000, description="Server updates.")
    workers: Workers = Workers()
    data: Data
    model: Model = Field(default="mlp", validate_default=True)
    optimizer: Optimizer = Field(
        default="sgd", validate_default=True, description="optax name and options, at the server."
    )
    worker_momentum: float = Field(
        default=0.0, ge=0, lt=1, description="beta of m = beta m + (1 - beta) g at each worker; a worker sends m."
    )
    rule: Rule
    pre: Annotated[tuple[Pre, ...], Strict(False)] = Field(
        default=(), description="What stands before the rule and mixes or shortens the rows, in this order."
    )
    attack: Attack
    schedule: Schedule = Field(default="synchronous", validate_default=True)
    executor: Executor = Ray()
    evaluate_every: Count = Field(
        default=10, description="Updates between two evaluations; the first and the last model are always evaluated."
    )
    repeats: Count = Field(default=1, le=10_000, description="Runs with the seeds seed, seed + 1, ...")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default_factory=dict, description="Dotted key to list of values: every combination is a run."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.seed + self.repeats > SEEDS:
            raise ValueError(
                f"seed: the repeats need the seeds {self.seed} to {self.seed + self.repeats - 1}, and seeds are below "
                f"{SEEDS}: take a smaller seed"
            )
        if self.steps * self.workers.total > JOBS:
            raise ValueError(
                f"steps: {self.steps} steps of {self.workers.total} workers are more than {JOBS} jobs: with so many "
                f"workers take at most {JOBS // self.workers.total} steps"
            )
        return self

    @property
    def seeds(self) -> range:
        """The seed of each repeat."""
        return range(self.seed, self.seed + self.repeats)


class ScenarioError(ValueError):
    """A mistake in a scenario, said in one line: the key, what is wrong and the way out."""


def parse(mapping: Mapping[str, Any]) -> Scenario:
    """The scenario that a mapping describes. Raises ScenarioError with one line for each mistake."""
    return parse_as(Scenario, mapping)


Described = TypeVar("Described", bound=BaseModel)


def parse_as(description: type[Described], mapping: Mapping[str, Any]) -> Described:
    """What a mapping describes, as any description made of the same parts; mistakes are said as those of a scenario."""
    try:
        return description.model_validate(mapping)
    except ValidationError as error:
        # a union of types gives one mistake for each of them: the first is enough
        lines = {
            ".".join(_locate(mistake["loc"], description)[0]): _explain(mistake, description)
            for mistake in reversed(error.errors())
            # the default of a field that follows a wrong one
            if mistake["type"] != "default_factory_not_called"
        }
        raise ScenarioError("\n".join(reversed(lines.values()))) from None


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` for a near match, else nothing; then all that is known."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(known)}"


def _explain(mistake: Any, description: type[BaseModel]) -> str:
    """One line for one of pydantic's errors."""
    path, place = _locate(mistake["loc"], description)
    key, value, context = ".".join(path), mistake["input"], mistake.get("ctx", {})
    match mistake["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key; {nearest(path[-1], place.model_fields if place else ())}"
        case "missing":
            return f"{key}: is missing"
        case "union_tag_invalid":
            known = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            word = path[-1] if not path[-1].isdigit() else path[-2].removesuffix("s")
            return f"{key}: unknown {word} {context['tag']!r}; {nearest(context['tag'], known)}"
        case "union_tag_not_found":
            return f"{key}.name: is missing"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{key or description.__name__.lower()}: a mapping is needed, got {value!r}"
        case "value_error":
            return f"{key}: {context['error']}" if key else str(context["error"])
        case _:
            return f"{key}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}, got {value!r}"


def _locate(location: tuple[Any, ...], description: type[BaseModel]) -> tuple[list[str], type[BaseModel] | None]:
    """The dotted key of pydantic's location (which also holds the tags of unions) and the description it lies in."""
    path: list[str] = []
    place: type[BaseModel] | None = description
    inner: Any = None
    for part in location:
        if isinstance(part, str) and get_origin(inner) in (Union, UnionType):
            place = {str(member.model_fields["name"].default): member for member in _members(inner)}.get(part, place)
            inner = None
            continue
        path.append(str(part))
        if isinstance(part, int) and get_origin(inner) is tuple:
            # an item of a list: below the annotations lies the union of what it can be
            inner = _bare(get_args(inner)[0])
            continue
        inner = place.model_fields[part].annotation if place and part in place.model_fields else None
        if get_origin(inner) in (Union, UnionType) and len(given := set(get_args(inner)) - {type(None)}) == 1:
            # a part that may be left out
            inner = _bare(given.pop())
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            place = inner
    return path, place


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _members(annotation: Any) -> list[type[BaseModel]]:
    members = getattr(annotation, "__args__", ())
    return [m for m in members if isinstance(m, type) and issubclass(m, BaseModel) and "name" in m.model_fields]
