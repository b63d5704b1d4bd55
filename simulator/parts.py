"""The parts of a scenario: what can be chosen by name, and the settings around it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias, Union

from pydantic import BeforeValidator, Discriminator, Field, Strict, Tag, create_model, model_validator
from pydantic_core import PydanticCustomError

from byzax.simulator.components import (
    ATTACKS,
    AUGMENTATIONS,
    DATA,
    FILTERS,
    LATENCIES,
    MODELS,
    OPTIMIZERS,
    PARTITIONS,
    PRE,
    RATE,
    RULES,
    SCHEDULES,
    Component,
    Description,
    RateSource,
    one_of,
)
from byzax.simulator.data.base import TestBy
from byzax.simulator.normalising import Normalise
from byzax.simulator.partitions import ALIASES

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", max_length=100)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
# seeds are below this
SEEDS = 2**31
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Seconds = Annotated[float, Field(ge=0)]
if TYPE_CHECKING:
    Partition: TypeAlias = Component
    Augmentation: TypeAlias = Component
    Optimizer: TypeAlias = Component
    Rule: TypeAlias = Component
    Pre: TypeAlias = Component
    Filter: TypeAlias = Component
    Delay: TypeAlias = Component
    Factors: TypeAlias = tuple[float, ...] | Component
    Schedule: TypeAlias = Component
    Rate: TypeAlias = float | RateSource
else:
    Partition = one_of("partition", PARTITIONS, aliases=ALIASES)
    Augmentation = one_of("augmentation", AUGMENTATIONS)
    Optimizer = one_of("optimizer", OPTIMIZERS)
    Rule = one_of("rule", RULES)
    Pre = one_of("pre", PRE)
    Filter = one_of("filter", FILTERS)
    # a bare number of seconds is a constant
    Delay = Annotated[
        one_of("latency", LATENCIES),
        BeforeValidator(
            lambda value: {"name": "constant", "seconds": value} if type(value) in (int, float) else value,
            json_schema_input_type=float | one_of("latency", LATENCIES),
        ),
    ]
    # told apart by what is written, so that a mistake is one of this kind and not of both
    Factors = Annotated[
        Annotated[tuple[Annotated[float, Field(gt=0)], ...], Strict(False), Tag("numbers")]
        | Annotated[Delay, Tag("latency")],
        Discriminator(lambda value: "numbers" if isinstance(value, (list, tuple)) else "latency"),
    ]
    Schedule = one_of("schedule", SCHEDULES)
    Rate = RATE


class DataSource(Component, frozen=True):
    """A data set and how the workers share it."""

    partition: Partition = Field(
        default="iid", validate_default=True, description="How training data is split over workers."
    )
    seed: Seed | None = Field(
        default=None,
        description="Of the split into training, validation and test samples and of the partition; null: the run's.",
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
    test_by: TestBy = Field(
        default="samples",
        description="What test is a share of: samples, or owners (writers, speakers, devices) whom no worker holds.",
    )
    normalise: Normalise = Field(
        default="none",
        description="Samples on one scale, by the training samples: in [0, 1] (unit), or of mean 0 and deviation 1.",
    )
    augment: Annotated[tuple[Augmentation, ...], Strict(False)] = Field(
        default=(), description="What changes the images that workers train on, in this order."
    )


class ModelSource(Component, frozen=True):
    """A model and its start."""

    seed: Seed | None = Field(default=None, description="Of the first parameters; null: the run's.")


if TYPE_CHECKING:
    Data: TypeAlias = DataSource
    Model: TypeAlias = ModelSource
else:
    Data = one_of("data", DATA, DataSource)
    Model = one_of("model", MODELS, ModelSource)


def _union(*members: type[Description]) -> Any:
    """One of several descriptions told apart by `name`, or its bare name where it needs nothing else."""
    together: Any = Annotated[Union[members], Field(discriminator="name")]  # noqa: UP007
    names: Any = Literal[tuple(member.model_fields["name"].default for member in members)]
    return Annotated[
        together,
        BeforeValidator(
            lambda value: {"name": value} if isinstance(value, str) else value, json_schema_input_type=names | together
        ),
    ]


def briefly(key: str, kind: type[int] | type[float], needed: str, description: type[Description]) -> Any:
    """The type of a field that holds a description, or in its place the bare value of its `key`, `needed` in words."""

    def whole(value: Any) -> Any:
        if type(value) in (int, kind):
            return {key: value}
        if isinstance(value, (description, Mapping)):
            return value
        context = {"needed": needed, "keys": ", ".join(description.model_fields)}
        raise PydanticCustomError("mapping_or_value", "{needed}, or a mapping of {keys}, is needed", context)

    return Annotated[description, BeforeValidator(whole, json_schema_input_type=kind | description)]


class Honest(Description, frozen=True):
    """As the latency model has it, like honest workers."""

    name: Literal["honest"] = "honest"


class First(Description, frozen=True):
    """Before each row of an honest worker every liar that may sends one: always in time, whatever the latency."""

    name: Literal["first"] = "first"


class Late(Description, frozen=True):
    """As late as allowed: a row waits until it is `age` updates old, or until nothing else can happen without it."""

    name: Literal["late"] = "late"
    age: int = Field(
        default=10, ge=0, description="Updates that a row waits; never longer than the schedule's max_age."
    )


class Silent(Description, frozen=True):
    """Never: liars take the model and send nothing."""

    name: Literal["silent"] = "silent"


class Chosen(Description, frozen=True):
    """Only in the updates start, start + every, ...: in others liars do not answer."""

    name: Literal["chosen"] = "chosen"
    every: Count = Field(default=10, description="Updates from one answer to the next.")
    start: int = Field(default=0, ge=0, description="The first update with an answer.")


class Replay(Description, frozen=True):
    """In time, but computed from a model `age` updates older than the one handed, which the server cannot see."""

    name: Literal["replay"] = "replay"
    age: Count = Field(default=10, description="Updates between the model handed and the one the row is from.")


Timing = Honest | First | Late | Silent | Chosen | Replay


Knowledge = Literal["omniscient", "colluding", "own"]

if TYPE_CHECKING:
    _Beginning: TypeAlias = Component
else:
    # a class body can have no field of this name
    _Beginning = create_model(
        "_Beginning",
        __base__=Component,
        **{"from": (int, Field(default=0, ge=0, description="The first update in which it is carried out."))},
    )


class Lie(_Beginning, frozen=True):
    """An attack: who carries it out, what it is told of honest workers, and in which updates.

    Rows are forged in the updates they are for, batches are poisoned by the version that the worker was handed; they
    are the same where no row is late.
    """

    workers: Count | None = Field(
        default=None, description="How many of the Byzantine workers carry it out; null: all that are left."
    )
    knowledge: Knowledge = Field(
        default="omniscient",
        description="All rows; only what its workers computed, together (colluding) or each for itself (own).",
    )
    until: Count | None = Field(default=None, description="The update before which it ends; null: never.")
    every: Count = Field(default=1, description="Updates from one in which it is carried out to the next.")

    @model_validator(mode="after")
    def _begins_first(self) -> Self:
        begin = getattr(self, "from")
        if self.until is not None and self.until <= begin:
            raise ValueError(f"until is {self.until} and must be above from, which is {begin}")
        return self

    @property
    def always(self) -> bool:
        """Whether it is carried out in every update."""
        return (getattr(self, "from"), self.until, self.every) == (0, None, 1)


if TYPE_CHECKING:
    Beside: TypeAlias = Lie
    Trigger: TypeAlias = Component
else:
    Beside = one_of("attack", ATTACKS, Lie)
    Trigger = one_of("attack", ATTACKS)


class AttackSource(Lie, frozen=True):
    """An attack: what the Byzantine workers send, and when."""

    beside: Annotated[tuple[Beside, ...], Strict(False)] = Field(
        default=(), description="Other attacks at the same time, by other Byzantine workers."
    )
    timing: _union(Honest, First, Late, Silent, Chosen, Replay) = Field(  # pyright: ignore[reportInvalidTypeForm]
        default_factory=lambda given: Silent() if given.get("name") == "silent" else Honest(),
        description="When they send: honest, first, late, silent, chosen or replay; silent by default where the attack "
        "is silent.",
    )


class Stragglers(Description, frozen=True):
    """Workers that are slow, drawn by the seed from all workers."""

    share: Annotated[float, Field(ge=0, le=1)] = Field(default=0.2, description="Share of the workers.")
    factor: Annotated[float, Field(ge=1)] = Field(
        default=10.0, description="Their computing takes so many times longer."
    )
    burst: Annotated[float, Field(ge=1)] | None = Field(
        default=None, description="Mean number of jobs that a slow spell lasts; null: they are slow always."
    )
    pause: Annotated[float, Field(ge=1)] = Field(default=20.0, description="Mean number of jobs between two spells.")


class Link(Description, frozen=True):
    """One direction between server and worker: a message takes its delay and bits / bandwidth."""

    delay: Delay = Field(default=0.0, validate_default=True, description="Seconds: a number, or a latency model.")  # pyright: ignore[reportAssignmentType]
    bandwidth: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Bits a second; null: any number."
    )


class Crash(Description, frozen=True):
    """A worker that dies, with what it was computing."""

    worker: int = Field(ge=0, description="Its number, from 0; the first ones are the Byzantine.")
    at: Seconds = Field(description="Second at which it dies.")
    back: Seconds | None = Field(default=None, description="Second at which it comes back; null: never.")

    @model_validator(mode="after")
    def _later(self) -> Self:
        if self.back is not None and self.back <= self.at:
            raise ValueError(f"worker {self.worker} is back at {self.back} and must die before that, not at {self.at}")
        return self


class LatencySource(Component, frozen=True):
    """How long a job's computing takes, and what else happens between server and workers."""

    factors: Factors | None = Field(
        default=None,
        description="What a worker's times are multiplied by: a number for each, or a latency model to draw it from.",
    )
    stragglers: Stragglers | None = Field(default=None, description="Workers that are slow always or in spells.")
    up: Link = Field(default=Link(), description="Worker to server.")
    down: Link = Field(default=Link(), description="Server to worker.")
    loss: Share = Field(default=0.0, description="Probability that a worker's message is lost; it then computes again.")
    crashes: Annotated[tuple[Crash, ...], Strict(False)] = Field(default=(), description="Who dies when.")


if TYPE_CHECKING:
    Attack: TypeAlias = AttackSource
    Latency: TypeAlias = LatencySource
else:
    Attack = one_of("attack", ATTACKS, AttackSource)
    Latency = one_of("latency", LATENCIES, LatencySource)

# What a part keeps when its name changes, by key: settings that all its choices share.
SHARED = {
    key: frozenset(base.model_fields) - {"name"}
    for key, base in {
        "data": DataSource,
        "model": ModelSource,
        "attack": AttackSource,
        "latency": LatencySource,
    }.items()
}


class Local(Description, frozen=True):
    """Several steps at the worker for one row (Local SGD, FedAvg)."""

    steps: Count | None = Field(default=None, le=1_000_000, description="Steps, H.")
    epochs: Count | None = Field(
        default=None, le=10_000, description="In place of `steps`: passes over the worker's samples."
    )
    last_batch: Literal["keep", "drop"] = Field(
        default="keep",
        description="Of an epoch, where samples do not fill it: smaller, or left out (never all that a worker holds).",
    )
    optimizer: Optimizer | None = Field(
        default=None,
        description="What takes the worker's steps, any optimizer, which begins anew with every job; null: plain SGD.",
    )
    learning_rate: Rate | None = Field(
        default_factory=lambda given: 0.1 if given.get("optimizer") is None else None,
        description="Of plain SGD: a number, or a schedule by the updates before the model it was handed.",
    )
    proximal: float = Field(
        default=0.0, ge=0, description="mu of FedProx: every step's loss has mu/2 |w - w_0|² more, w_0 as handed."
    )
    control_variates: bool = Field(
        default=False,
        description="SCAFFOLD: every step's gradient has the difference of all workers' usual one to the worker's own.",
    )
    send: Literal["delta", "model"] = Field(
        default="delta",
        description="The change from the model it was handed (as a descent, before minus after), or its model.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("steps or epochs must be given, and not both: such as steps: 5")
        if self.steps is not None and self.last_batch == "drop":
            raise ValueError("last_batch: is for epochs: batches of steps are drawn and always full")
        if (self.optimizer is None) == (self.learning_rate is None):
            raise ValueError(
                "learning_rate is that of plain SGD: with an optimizer leave it out, and write optimizer.learning_rate"
                if self.optimizer
                else "learning_rate must be given, such as 0.1"
            )
        return self


class Momentum(Description, frozen=True):
    """Momentum at each worker, which sends m."""

    beta: float = Field(default=0.0, ge=0, lt=1, description="Share of m that stays.")
    kind: Literal["exponential", "heavy_ball"] = Field(
        default="exponential", description="m = beta m + (1 - beta) g, or m = beta m + g."
    )


class Clipping(Description, frozen=True):
    """Every gradient at a worker is cut to a size, after the penalties and before momentum: by value, then by norm."""

    norm: Annotated[float, Field(gt=0)] | None = Field(default=None, description="The largest length; null: any.")
    value: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="The largest absolute value of a coordinate; null: any."
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.norm is None and self.value is None:
            raise ValueError("norm or value must be given, or both: such as norm: 2")
        return self


class Regularisation(Description, frozen=True):
    """Penalties in every gradient at a worker (no reported loss holds them), and a bound on the model."""

    l1: float = Field(default=0.0, ge=0, description="l1 sign(w) is added to the gradient (penalty l1 |w|_1).")
    l2: float = Field(default=0.0, ge=0, description="l2 w is added to the gradient (penalty l2/2 |w|²).")
    max_norm: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="After every update all parameters together are projected to this length at most; null: any.",
    )


class VarianceReduction(Description, frozen=True):
    """SAGA: a job's gradient less the last one on the same batch plus the mean of the last ones on all batches.

    A worker's samples are fixed batches of data.batch_size, of which a job draws one.
    """

    name: Literal["saga"] = "saga"


class EarlyStopping(Description, frozen=True):
    """The end of a run before its last update, where it gets no better on the validation samples."""

    patience: Count = Field(default=5, description="Evaluations in a row without a new best one that end the run.")
    measure: Literal["validation_loss", "validation_accuracy"] = Field(
        default="validation_loss", description="What is to get better."
    )


class Byzantine(Description, frozen=True):
    """Who really is Byzantine."""

    count: int = Field(default=3, ge=0, description="How many workers; it may be all of them.")
    which: Literal["first", "random", "by_data"] = Field(
        default="first",
        description="The first ones (ties, which go to the lowest index, favour them), some drawn by the seed, or "
        "those whose labels are least like everybody's.",
    )
    per_round: Literal["fixed", "sampled"] = Field(
        default="fixed", description="The same workers always, or others drawn for every update."
    )
    participating: int | None = Field(
        default=None,
        ge=0,
        description="With the schedule sampled: exactly so many of them are among the participants of every update; "
        "null: as many as are drawn.",
    )
    seed: Seed | None = Field(default=None, description="Of who is drawn; null: the run's.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.per_round == "sampled" and self.which == "by_data":
            raise ValueError("which: by_data is for the same workers always: with per_round sampled leave it out")
        if self.participating is not None and self.per_round == "sampled":
            raise ValueError(
                "participating: is for the same Byzantine workers always, of which some take part: with per_round "
                "sampled leave it out"
            )
        if self.participating is not None and self.participating > self.count:
            raise ValueError(
                f"participating: {self.participating} cannot take part where {self.count} are Byzantine (count): "
                "choose at most as many"
            )
        if self.seed is not None and self.per_round == "fixed" and self.which != "random":
            raise ValueError(f"seed: nobody is drawn with which {self.which}: take which random, or leave seed out")
        return self


class Workers(Description, frozen=True):
    """Who takes part."""

    total: Count = Field(default=15, le=100_000, description="Number of workers, n.")
    byzantine: briefly("count", int, "a whole number", Byzantine) = Field(  # pyright: ignore[reportInvalidTypeForm]
        default=Byzantine(), description="How many of them really are Byzantine: a number, or a mapping."
    )
    declared: int = Field(
        default_factory=lambda given: given["byzantine"].count if "byzantine" in given else 0,
        ge=0,
        description="What the rule is told, f; by default the real number.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for field, value in {"byzantine": self.byzantine.count, "declared": self.declared}.items():
            if value > self.total:
                there = f"are only {self.total} workers" if self.total > 1 else "is only 1 worker"
                raise ValueError(f"{field} is {value}, but there {there} (workers.total)")
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
if TYPE_CHECKING:
    Executor: TypeAlias = Loop | Vectorised | Ray
else:
    Executor = _union(Loop, Vectorised, Ray)
