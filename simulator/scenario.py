"""A scenario: the frozen, strict description of an experiment, the only thing that is written, compared and sent."""

import difflib
import itertools
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field, Strict, Tag, ValidationError, model_validator

from byzax.simulator.components import Description
from byzax.simulator.mistakes import LONGEST_VALUE, MOST_LINES, Impossible, ScenarioError, cut, shown, together
from byzax.simulator.parts import (
    SEEDS,
    Attack,
    Clipping,
    Count,
    Data,
    EarlyStopping,
    Executor,
    Filter,
    Latency,
    Lie,
    Local,
    Model,
    Momentum,
    Name,
    Optimizer,
    Pre,
    Ray,
    Regularisation,
    Rule,
    Schedule,
    Seed,
    Trigger,
    VarianceReduction,
    Workers,
    briefly,
)
from byzax.simulator.registry import unusable_of

# So many jobs of one run are planned ahead at most (48 bytes each).
JOBS = 100_000_000


class Scenario(Description, frozen=True):
    """One experiment: a training run for each combination of `grid` and each of `repeats` seeds."""

    name: Name = Field(description="Names the results.")
    seed: Seed = Field(default=0, description="Seed of the first repeat.")
    steps: Count = Field(default=200, le=10_000_000, description="Server updates.")
    workers: Workers = Workers()
    data: Data
    model: Model = Field(default="mlp", validate_default=True)
    optimizer: Optimizer = Field(
        default="sgd",
        validate_default=True,
        description="optax name and options, at the server; with `local` sgd with learning rate 1 unless given.",
    )
    local: Local | None = Field(default=None, description="Steps at the worker for each row; null: one gradient.")
    worker_momentum: briefly("beta", float, "a number", Momentum) = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=Momentum(), description="A number beta, or a mapping with beta and kind; a worker sends m."
    )
    clipping: Clipping | None = Field(default=None, description="Bounds on a worker's gradients; null: none.")
    regularisation: Regularisation = Regularisation()
    variance_reduction: Annotated[
        VarianceReduction | None,
        BeforeValidator(
            lambda value: {"name": value} if isinstance(value, str) else value,
            json_schema_input_type=Literal["saga"] | VarianceReduction | None,
        ),
    ] = Field(default=None, description="saga, or null for gradients as they are.")
    rule: Rule
    weights: Literal["equal", "samples"] = Field(
        default="equal",
        description="What a row weighs: samples multiplies the rule's own weights by the samples its worker holds.",
    )
    pre: Annotated[tuple[Pre, ...], Strict(False)] = Field(
        default=(), description="What stands before the rule and mixes or shortens the rows, in this order."
    )
    filter: Filter | None = Field(
        default=None, description="What judges each row where an update has one; null: every row counts."
    )
    attack: Attack
    trigger: Trigger | None = Field(
        default=None,
        description="A backdoor whose trigger's success is measured, whoever trains on it or nobody; null: that of the "
        "attack, and with none in a grid that of the backdoors beside it, where they have one between them.",
    )
    schedule: Schedule = Field(default="synchronous", validate_default=True)
    latency: Latency = Field(
        default="constant", validate_default=True, description="Virtual seconds of jobs and messages."
    )
    clock: Literal["virtual", "wall"] = Field(
        default="virtual",
        description="Virtual seconds, the same every time; or real ones: workers race, and times of `latency` pass.",
    )
    executor: Executor = Ray()
    evaluate_every: Count = Field(
        default=10, description="Updates between two evaluations; the first and the last model are always evaluated."
    )
    early_stopping: EarlyStopping | None = Field(default=None, description="null: every run goes to its last update.")
    repeats: Count = Field(default=1, le=10_000, description="Runs with the seeds seed, seed + 1, ...")
    skip_impossible: bool = Field(
        default=False,
        description="Leave out, and list, combinations of the grid whose numbers do not go together, such as n and f.",
    )
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default_factory=dict, description="Dotted key to list of values: every combination is a run."
    )

    @model_validator(mode="before")
    @classmethod
    def _fitting_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if given.get("local") is not None and "optimizer" not in given:
            # with learning rate 1 the server takes the workers' mean as it is
            given = given | {"optimizer": {"name": "sgd", "learning_rate": 1.0}}
        if given.get("clock") == "wall" and "latency" not in given:
            # nothing but what computing takes
            given = given | {"latency": {"name": "constant", "seconds": 0.0}}
        return given

    @model_validator(mode="after")
    def _possible(self) -> Self:
        n = self.workers.total
        if self.clock == "wall" and self.executor.name != "ray":
            raise ValueError(f"clock: wall needs racing workers: executor ray, not {self.executor.name}")
        if self.local and self.variance_reduction:
            raise ValueError(
                "variance_reduction: saga is for single gradients: with local leave it out, or take local.proximal"
            )
        if self.early_stopping and not self.data.validation:
            raise ValueError("early_stopping: needs validation samples, and data.validation is 0: such as 0.1")
        if self.local and self.local.send == "model" and self.worker_momentum.beta:
            raise ValueError("worker_momentum: is for gradients and changes: with local.send model leave it out")
        self._controlled()
        self._who_lies()
        self._participating()
        if isinstance(self.latency.factors, tuple) and len(self.latency.factors) != n:
            raise ValueError(
                f"latency.factors: {len(self.latency.factors)} factors for {n} workers (workers.total): "
                "give one for each"
            )
        if wrong := [crash.worker for crash in self.latency.crashes if crash.worker >= n]:
            raise ValueError(f"latency.crashes: worker {wrong[0]} is outside 0..{n - 1} (workers.total is {n})")
        lives = sorted(self.latency.crashes, key=lambda crash: (crash.worker, crash.at))
        for one, other in itertools.pairwise(lives):
            if one.worker == other.worker and (one.back is None or other.at <= one.back):
                until = "for good" if one.back is None else f"until {one.back:g} s"
                raise ValueError(
                    f"latency.crashes: worker {one.worker} cannot die at {other.at:g} s: it is dead from {one.at:g} s "
                    f"on, {until}: remove one of the two"
                )
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

    def _controlled(self) -> None:
        """Raises ValueError where control variates would not be what they are: they are read off the models handed."""
        local, options = self.local, self.optimizer.options()
        if local is None or not local.control_variates:
            return
        needed = {
            "local.steps": local.steps is not None,
            "local.send delta": local.send == "delta",
            "local.learning_rate a number": isinstance(local.learning_rate, float),
            "worker_momentum 0": not self.worker_momentum.beta,
            "optimizer sgd without momentum and with a number for its rate": self.optimizer.name == "sgd"
            and not options["momentum"]
            and isinstance(options["learning_rate"], float),
            "no regularisation.max_norm": self.regularisation.max_norm is None,
            "no filter": self.filter is None,
            "schedule synchronous with quorum all": self.schedule.model_dump()
            == {"name": "synchronous", "quorum": "all"},
            "attack.timing honest, and no lost message or crash": self.attack.timing.name == "honest"
            and not self.latency.loss
            and not self.latency.crashes,
            "clock virtual": self.clock == "virtual",
        }
        if missing := [what for what, given in needed.items() if not given]:
            raise ValueError(f"local.control_variates: needs {'; and '.join(missing)}")

    def _who_lies(self) -> None:
        """Raises ValueError where the attacks cannot be shared among the Byzantine workers, or do not go together."""
        attacks = dict(zip(self.lie_keys, (self.attack, *self.attack.beside), strict=True))
        count = self.workers.byzantine.count
        open_ = {key: each for key, each in attacks.items() if each.workers is None}
        given = sum(each.workers or 0 for each in attacks.values())
        if len(open_) > 1:
            raise ValueError(
                f"{', '.join(f'{key}.workers' for key in open_)}: "
                f"{' and '.join(each.name for each in open_.values())} would all take the Byzantine workers that are "
                "left: say workers for all of them but one"
            )
        if given > count or (not open_ and given < count) or (given and open_ and given == count):
            keys = ", ".join(f"{key}.workers" for key in attacks if key not in open_)
            rest = "".join(f" and at least 1 for {each.name}" for each in open_.values())
            raise ValueError(
                f"{keys}: Byzantine workers asked for are {given}{rest}, and there are {count} (workers.byzantine): "
                "change one of the two"
            )
        for key, each in attacks.items():
            begin = getattr(each, "from")
            if begin >= self.steps and count:
                raise ValueError(
                    f"{key}.from: {each.name} begins in update {begin}, and there are {self.steps} (steps), the first "
                    "one 0: choose one of these"
                )
        changing = self.workers.byzantine.per_round == "sampled"
        if self.attack.timing.name != "honest" and (changing or not all(each.always for each in attacks.values())):
            what = "workers.byzantine.per_round sampled" if changing else "from, until and every"
            raise ValueError(
                f"attack.timing: {self.attack.timing.name} is for the same liars in all updates, not with {what}"
            )

    def _participating(self) -> None:
        """Raises ValueError where no update could have exactly the asked number of Byzantine participants."""
        byzantine, options, n = self.workers.byzantine, self.schedule.options(), self.workers.total
        wanted = byzantine.participating
        if wanted is None:
            return
        key = "workers.byzantine.participating"
        if self.schedule.name != "sampled":
            raise ValueError(
                f"{key}: is for the schedule sampled, in which a few of many workers take part, and schedule is "
                f"{self.schedule.name}: leave it out"
            )
        participants = options["participants"]
        if wanted > participants or participants - wanted > n - byzantine.count:
            raise ValueError(
                f"{key}: {wanted} of {participants} participants (schedule.participants) cannot be Byzantine where "
                f"{byzantine.count} of {n} workers are: choose {max(0, participants - n + byzantine.count)} to "
                f"{min(participants, byzantine.count)}"
            )
        if options["asked"] not in (None, participants):
            raise ValueError(
                f"{key}: of {options['asked']} that are asked (schedule.asked) the first {participants} take part, "
                "whoever they are: leave schedule.asked out"
            )
        if options["by"] == "cyclic":
            raise ValueError(f"{key}: in turn (schedule.by cyclic) the turn decides: choose uniform or samples")
        if self.attack.timing.name in ("silent", "chosen"):
            raise ValueError(
                f"{key}: Byzantine workers that do not answer (attack.timing {self.attack.timing.name}) take no part: "
                "leave one of the two out"
            )

    @property
    def lies(self) -> list[tuple[Lie, int, int]]:
        """Each attack, and the Byzantine workers that carry it out: those number `first` to `end` - 1."""
        left = self.workers.byzantine.count - sum(each.workers or 0 for each in (self.attack, *self.attack.beside))
        found, first = [], 0
        for each in (self.attack, *self.attack.beside):
            end = first + (left if each.workers is None else each.workers)
            found.append((each, first, end))
            first = end
        return found

    @property
    def lie_keys(self) -> list[str]:
        """The key of each attack."""
        return ["attack", *(f"attack.beside[{i}]" for i in range(len(self.attack.beside)))]

    @property
    def seeds(self) -> range:
        """The seed of each repeat."""
        return range(self.seed, self.seed + self.repeats)


def parse(mapping: Mapping[str, Any]) -> Scenario:
    """The scenario that a mapping describes. Raises ScenarioError with one line for each mistake."""
    return parse_as(Scenario, mapping)


Described = TypeVar("Described", bound=BaseModel)


def parse_as(description: type[Described], mapping: Mapping[str, Any]) -> Described:
    """What a mapping describes, as any description made of the same parts; mistakes are said as those of a scenario."""
    try:
        return description.model_validate(mapping)
    except ValidationError as error:
        # a union of types gives one mistake for each of them: the first is enough, with the words that would do too
        lines: dict[str, str] = {}
        more: set[str] = set()
        mistakes = error.errors(include_url=False)
        for mistake in mistakes:
            key = ".".join(_locate(mistake["loc"], description)[0])
            if key not in lines:
                # the default of a field that follows a wrong one
                if mistake["type"] == "default_factory_not_called":
                    continue
                if len(lines) >= MOST_LINES:
                    more.add(key)
                else:
                    lines[key] = _explain(mistake, description)
            elif (other := _needed(mistake["type"], mistake.get("ctx", {}))) not in lines[key] and other != UNKNOWN:
                lines[key] += f"; or {other.removeprefix('must be ').removesuffix(' is needed')}"
        kind = Impossible if all(mistake["type"] == "value_error" for mistake in mistakes) else ScenarioError
        raise kind(together([*lines.values()], len(more))) from None


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'? ` for a near match, else nothing; then all that is known."""
    near = difflib.get_close_matches(word[:LONGEST_VALUE], list(known), n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"known: {', '.join(known)}"


def _explain(mistake: Any, description: type[BaseModel]) -> str:
    """One line for one of pydantic's errors."""
    path, place = _locate(mistake["loc"], description)
    key, value, context = ".".join(map(cut, path)), mistake["input"], mistake.get("ctx", {})
    match mistake["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key; {nearest(path[-1], place.model_fields if place else ())}"
        case "missing":
            return f"{key}: is missing"
        case "union_tag_invalid":
            known = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            listed, item, _ = path[-1].partition("[")
            word = listed.removesuffix("s") if item else listed
            word = {"beside": "attack", "augment": "augmentation"}.get(word, word)
            # a base is a rule, but not every rule can be one
            unusable = unusable_of("rule" if word == "base" else word)
            left_out = "".join(f"; left out: {error}" for error in unusable.values())
            return f"{key}: unknown {word} {shown(context['tag'])}; {nearest(context['tag'], known)}{left_out}"
        case "union_tag_not_found":
            return f"{key}.name: is missing" if isinstance(value, Mapping) else f"{key}: {NAMED}, got {shown(value)}"
        case "value_error":
            return f"{key}: {context['error']}" if key else str(context["error"])
        case kind:
            return f"{key or description.__name__.lower()}: {_needed(kind, context)}, got {shown(value)}"


UNKNOWN = "this cannot be used here"
NAMED = "a name, or a mapping with name and options, is needed"


def _needed(kind: str, context: Mapping[str, Any]) -> str:
    """The words for what a value must be, by pydantic's type of mistake."""
    words = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in context.items()}
    match kind:
        case "int_type" | "int_from_float" | "int_parsing" | "int_parsing_size":
            return "a whole number is needed"
        case "float_type" | "float_parsing":
            return "a number is needed"
        case "finite_number":
            return "a finite number is needed"
        case "bool_type" | "bool_parsing":
            return "true or false is needed"
        case "string_type" | "string_unicode":
            return "text is needed"
        case "string_pattern_mismatch":
            return "letters, digits, spaces and . _ - are needed, a letter or digit first"
        case "string_too_long":
            return f"at most {words['max_length']} characters are needed"
        case "greater_than":
            return f"must be greater than {words['gt']}"
        case "greater_than_equal":
            return f"must be at least {words['ge']}"
        case "less_than":
            return f"must be less than {words['lt']}"
        case "less_than_equal":
            return f"must be at most {words['le']}"
        case "literal_error":
            return f"must be {words['expected']}"
        case "tuple_type" | "list_type":
            return "a list is needed"
        case "too_short":
            least = words["min_length"]
            return f"at least {'one value is' if least == '1' else f'{least} values are'} needed"
        case "too_long":
            return f"at most {words['max_length']} values can be given"
        case "missing_argument" | "unexpected_positional_argument":
            return "a list with as many values as there are options is needed"
        case "model_attributes_type":
            return NAMED
        case "model_type" | "dict_type" | "mapping_type":
            return "a mapping is needed"
        case "none_required":
            return "null is needed"
        case "mapping_or_value":
            return f"{words['needed']}, or a mapping of {words['keys']}, is needed"
        case _:
            return UNKNOWN


def _locate(location: tuple[Any, ...], description: type[BaseModel]) -> tuple[list[str], type[BaseModel] | None]:
    """The dotted key of pydantic's location (which also holds the tags of unions) and the description it lies in."""
    path: list[str] = []
    place: type[BaseModel] | None = description
    inner: Any = None
    for part in location:
        if isinstance(part, str) and get_origin(inner) in (Union, UnionType):
            place = {str(member.model_fields["name"].default): member for member in _members(inner)}.get(part, place)
            # members of a union that are told apart by a function have tags
            inner = next(
                (_bare(each) for each in get_args(inner) if Tag(part) in getattr(each, "__metadata__", ())), None
            )
            continue
        if isinstance(part, int) and path:
            path[-1] += f"[{part}]"
        else:
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
