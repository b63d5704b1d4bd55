"""Byzantine workers: their number and choice, their attacks, and the times at which they send."""

from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import Field, Strict, create_model, model_validator

from byzax.simulator.config.base import Count, Description, Seed
from byzax.simulator.config.choices import accept_bare
from byzax.simulator.config.part import Choice, Part


class Byzantine(Description, frozen=True):
    """The Byzantine workers, whatever the declared number is."""

    _short = "count"

    count: int = Field(default=3, ge=0, description="Number of workers; it may be all of them.")
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
    seed: Seed | None = Field(default=None, description="Seed of the draw; null: the run's.")

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
    """The workers of a run."""

    total: Count = Field(default=15, le=100_000, description="Number of workers, n.")
    byzantine: Annotated[Byzantine, accept_bare(int, Byzantine)] = Field(
        default=Byzantine(), description="Byzantine workers: their number, or a mapping."
    )
    declared: int = Field(
        default_factory=lambda given: given["byzantine"].count if "byzantine" in given else 0,
        ge=0,
        description="Declared number of Byzantine workers, the f of the rule; by default the real number.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for field, value in {"byzantine": self.byzantine.count, "declared": self.declared}.items():
            if value > self.total:
                there = f"are only {self.total} workers" if self.total > 1 else "is only 1 worker"
                raise ValueError(f"{field} is {value}, but there {there} (workers.total)")
        return self


Knowledge = Literal["omniscient", "colluding", "own"]

if TYPE_CHECKING:
    _Beginning: TypeAlias = Part
else:
    # a class body can have no field of this name
    _Beginning = create_model(
        "_Beginning",
        __base__=Part,
        **{"from": (int, Field(default=0, ge=0, description="The first update in which it is carried out."))},
    )


class AttackShare(_Beginning, frozen=True):
    """An attack: its number of workers, its knowledge of honest rows, and its updates.

    Rows are forged in the updates that they arrive for, batches are poisoned in the update whose model the worker was
    handed; these are the same where no row is late.
    """

    workers: Count | None = Field(
        default=None, description="Number of Byzantine workers that carry it out; null: all that are left."
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
        """True where it is carried out in every update."""
        return (getattr(self, "from"), self.until, self.every) == (0, None, 1)


BesideField: TypeAlias = Annotated[AttackShare, Choice("attack", AttackShare)]
TRIGGER = Choice("attack")
TriggerField: TypeAlias = Annotated[Part, TRIGGER]


TimingField: TypeAlias = Annotated[Part, Choice("timing")]


class AttackPart(AttackShare, frozen=True):
    """The attack of a scenario, with others beside it, and how and when Byzantine workers send."""

    beside: Annotated[tuple[BesideField, ...], Strict(False)] = Field(
        default=(), description="Other attacks at the same time, by other Byzantine workers."
    )
    timing: TimingField = Field(
        default_factory=lambda given: "silent" if given.get("name") == "silent" else "honest",
        validate_default=True,
        description="Times at which they send; silent by default where the attack is silent.",
    )
    wire: Literal["encoded", "ignored", "malformed"] = Field(
        default="encoded",
        description="With a `wire`, what is forged is encoded as other messages are; or reaches the receiver as it is; "
        "or the encoded message is broken: huge numbers, places that do not exist or come twice, NaN, at random.",
    )


AttackField: TypeAlias = Annotated[AttackPart, Choice("attack", AttackPart)]
