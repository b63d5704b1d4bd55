"""A run: everything that decides its numbers."""

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, Strict, ValidatorFunctionWrapHandler, model_validator

from byzax.numbers import Number
from byzax.simulator.config.attack import AttackField, AttackShare, TriggerField, Workers
from byzax.simulator.config.base import Count, Description, Seed, mistake
from byzax.simulator.config.data import DataField, ModelField
from byzax.simulator.config.latency import LatencyField, name_of
from byzax.simulator.config.part import Choice, Part
from byzax.simulator.config.privacy import Masks, Privacy
from byzax.simulator.config.rates import OptimizerField
from byzax.simulator.config.wire import Wire
from byzax.simulator.config.worker import Clipping, Local, Momentum, MomentumField, ReductionField, Regularisation

# The keys that a study has besides those of a run.
STUDY_KEYS = (
    "name", "executor", "evaluate_every", "early_stopping", "measure", "log", "record", "snapshots", "repeats",
    "report", "skip_impossible", "grid", "zip", "when", "exclude", "include",
)  # fmt: skip
# Most jobs of one run, which are planned ahead (48 bytes each).
JOBS = 100_000_000

RuleField = Annotated[Part, Choice("rule")]
PreField = Annotated[Part, Choice("pre")]
FilterField = Annotated[Part, Choice("filter")]
ScheduleField = Annotated[Part, Choice("schedule")]
TopologyField = Annotated[Part, Choice("topology")]


class AssignedAttack(NamedTuple):
    """An attack and the Byzantine workers that carry it out.

    Attributes:
        key: Key of the attack in the scenario.
        part: The attack.
        first: The first of these workers, as a number among the Byzantine ones.
        end: The number after the last of them.
    """

    key: str
    part: AttackShare
    first: int
    end: int


class Settings(Description, frozen=True):
    """The settings that decide the numbers of a run, by the keys of a scenario."""

    seed: Seed = Field(default=0, description="Seed of the first repeat.")
    steps: Count = Field(default=200, le=10_000_000, description="Server updates.")
    workers: Workers = Workers()
    data: DataField
    model: ModelField = Field(default="mlp", validate_default=True)
    optimizer: OptimizerField = Field(
        default="sgd",
        validate_default=True,
        description="optax name and options, at the server; with `local` sgd with learning rate 1 unless given.",
    )
    local: Local | None = Field(default=None, description="Steps at the worker for each row; null: one gradient.")
    worker_momentum: MomentumField = Field(
        default=Momentum(), description="A number beta, or a mapping with beta and kind; a worker sends m."
    )
    clipping: Clipping | None = Field(default=None, description="Bounds on a worker's gradients; null: none.")
    regularisation: Regularisation = Regularisation()
    variance_reduction: ReductionField | None = Field(
        default=None, description="saga, or null for gradients as they are."
    )
    privacy: Privacy | None = Field(
        default=None, description="Differential privacy of what workers send or the server makes of it; null: none."
    )
    masks: Masks | None = Field(
        default=None, description="Secure aggregation, so that the server sees means of groups alone; null: none."
    )
    rule: RuleField = Field(
        description="The rule; not needed where the topology has a `mixing`, which takes its place."
    )
    weights: Literal["equal", "samples"] = Field(
        default="equal",
        description="Weights of rows: samples multiplies the rule's own weights by the workers' numbers of samples.",
    )
    pre: Annotated[tuple[PreField, ...], Strict(False)] = Field(
        default=(), description="Pre-aggregations, which mix or shorten the rows before the rule, in this order."
    )
    filter: FilterField | None = Field(
        default=None, description="The filter, which judges each row where an update has one; null: every row counts."
    )
    attack: AttackField
    trigger: TriggerField | None = Field(
        default=None,
        description="A backdoor whose trigger's success is measured, whoever trains on it or nobody; null: that of the "
        "attack, and with none in a grid that of the backdoors beside it, where they have one between them.",
    )
    topology: TopologyField = Field(default="parameter_server", validate_default=True)
    wire: Wire = Wire()
    schedule: ScheduleField = Field(default="synchronous", validate_default=True)
    latency: LatencyField = Field(
        default="constant", validate_default=True, description="Virtual seconds of jobs and messages."
    )
    clock: Literal["virtual", "wall"] = Field(
        default="virtual",
        description="Virtual seconds, the same every time; or real ones: workers race, and times of `latency` pass.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _fitting_defaults(cls, values: Any, handler: ValidatorFunctionWrapHandler) -> Self:
        fitting: dict[str, Any] = {}
        if isinstance(values, dict) and values.get("local") is not None and "optimizer" not in values:
            # with learning rate 1 the model moves by the workers' mean itself
            fitting["optimizer"] = {"name": "sgd", "learning_rate": 1.0}
        if isinstance(values, dict) and values.get("clock") == "wall" and "latency" not in values:
            # no time but that of computing
            fitting["latency"] = {"name": "constant", "seconds": 0.0}
        if isinstance(values, dict) and "rule" not in values and _mixes(values.get("topology")):
            # a mixing takes the place of the rule
            fitting["rule"] = "average"
        if not fitting:
            return handler(values)
        settings = handler(values | fitting)
        # a copy with another `local` or `clock` has the defaults of these
        settings.model_fields_set.difference_update(fitting)
        return settings

    @model_validator(mode="after")
    def _possible(self) -> Self:
        n = self.workers.total
        if self.local and self.variance_reduction:
            raise ValueError(
                "variance_reduction: saga is for single gradients: with local leave it out, or take local.proximal"
            )
        if self.sends_models and self.worker_momentum.beta:
            raise ValueError("worker_momentum: is for gradients and changes: with local.send model leave it out")
        self._private()
        self._controlled()
        self._shared_attacks()
        self._participating()
        if isinstance(self.latency.factors, tuple) and len(self.latency.factors) != n:
            raise ValueError(
                f"latency.factors: {len(self.latency.factors)} factors for {n} workers (workers.total): "
                "give one for each"
            )
        self._living()
        if self.steps * self.workers.total > JOBS:
            raise ValueError(
                f"steps: {self.steps} steps of {self.workers.total} workers are more than {JOBS} jobs: with so many "
                f"workers take at most {JOBS // self.workers.total} steps"
            )
        return self

    def _private(self) -> None:
        """Raises ValueError where gradients of single samples or batches do not go with the job of a worker."""
        level = self.privacy and self.privacy.level
        if level == "sample" and self.variance_reduction:
            raise ValueError(
                "privacy.level: sample is for gradients of batches that are drawn, and saga has fixed ones: leave "
                "variance_reduction out, or take level worker"
            )
        if self.data.batches == "poisson" and level != "sample":
            raise ValueError(
                "data.batches: poisson makes batches of any size, which privacy of level sample takes: with anything "
                "else take without_replacement"
            )
        if self.data.batches != "replacement" and (self.variance_reduction or (self.local and self.local.epochs)):
            raise ValueError(
                f"data.batches: {self.data.batches} is for batches that are drawn: with "
                f"{'local.epochs' if self.local else 'variance_reduction'} leave it out"
            )

    def _living(self) -> None:
        """Raises ValueError for crashes and outages of workers that there are not, and for one that dies twice."""
        n, latency = self.workers.total, self.latency
        named = [("crashes", crash.node) for crash in latency.crashes]
        named += [("outages", node) for outage in latency.outages for group in outage.groups for node in group]
        for key, (kind, number) in named:
            if kind == "worker" and number >= n:
                raise ValueError(f"latency.{key}: worker {number} is outside 0..{n - 1} (workers.total is {n})")
        lives = sorted(latency.crashes, key=lambda crash: (crash.node, crash.at))
        for one, other in itertools.pairwise(lives):
            if one.node == other.node and (one.back is None or other.at <= one.back):
                until = "for good" if one.back is None else f"until {one.back:g} s"
                raise ValueError(
                    f"latency.crashes: {name_of(one.node)} cannot die at {other.at:g} s: it is dead from {one.at:g} s "
                    f"on, {until}: remove one of the two"
                )

    def _controlled(self) -> None:
        """Raises ValueError where control variates cannot be computed from the models that workers are handed."""
        local, options = self.local, self.optimizer.options()
        if local is None or not local.control_variates:
            return
        needed = {
            "local.steps": local.steps is not None,
            "local.send delta": not self.sends_models,
            "local.learning_rate a number": isinstance(local.learning_rate, (float, Number)),
            "worker_momentum 0": not self.worker_momentum.beta,
            "optimizer sgd without momentum and with a number for its rate": self.optimizer.name == "sgd"
            and not options["momentum"]
            and isinstance(options["learning_rate"], (float, Number)),
            "no regularisation.max_norm": self.regularisation.max_norm is None,
            "no filter": self.filter is None,
            "clock virtual": self.clock == "virtual",
        }
        if missing := [what for what, fulfilled in needed.items() if not fulfilled]:
            raise ValueError(f"local.control_variates: needs {'; and '.join(missing)}")

    def _shared_attacks(self) -> None:
        """Raises ValueError where attacks do not fit the number of Byzantine workers, or do not go together."""
        attacks = {each.key: each.part for each in self.attacks}
        count = self.workers.byzantine.count
        open_ = {key: each for key, each in attacks.items() if each.workers is None}
        assigned = sum(each.workers or 0 for each in attacks.values())
        if len(open_) > 1:
            raise ValueError(
                f"{', '.join(f'{key}.workers' for key in open_)}: "
                f"{' and '.join(each.name for each in open_.values())} would all take the Byzantine workers that are "
                "left: say workers for all of them but one"
            )
        if assigned > count or (not open_ and assigned < count) or (assigned and open_ and assigned == count):
            keys = ", ".join(f"{key}.workers" for key in attacks if key not in open_)
            rest = "".join(f" and at least 1 for {each.name}" for each in open_.values())
            raise ValueError(
                f"{keys}: Byzantine workers asked for are {assigned}{rest}, and there are {count} (workers.byzantine): "
                "change one of the two"
            )
        for key, each in attacks.items():
            begin = getattr(each, "from")
            if begin >= self.steps and count:
                raise ValueError(
                    f"{key}.from: {each.name} begins in update {begin}, and there are {self.steps} (steps), the first "
                    "one 0: choose one of these"
                )

    def _participating(self) -> None:
        """Raises ValueError where no update can have exactly the given number of Byzantine participants."""
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

    @property
    def sends_models(self) -> bool:
        """True where workers send models, and not gradients or changes of the model."""
        return self.local is not None and self.local.send == "model"

    @property
    def attacks(self) -> list[AssignedAttack]:
        """Each attack, and the Byzantine workers that carry it out."""
        left = self.workers.byzantine.count - sum(each.workers or 0 for each in (self.attack, *self.attack.beside))
        assigned, first = [], 0
        for place, each in enumerate((self.attack, *self.attack.beside)):
            end = first + (left if each.workers is None else each.workers)
            assigned.append(AssignedAttack(f"attack.beside[{place - 1}]" if place else "attack", each, first, end))
            first = end
        return assigned


def _mixes(topology: Any) -> bool:
    """Tells whether a topology, as a part or as it is written, has a mixing."""
    given = topology.options() if isinstance(topology, Part) else topology
    return isinstance(given, Mapping) and given.get("mixing") is not None


class Run(Settings, frozen=True):
    """One run with one seed: everything that decides its numbers. Hashable; copies (`replace`) are checked.

    Example:
        >>> run = Run(data="digits", rule="krum", attack="sign_flip", steps=20)
        >>> run.replace(rule={"name": "multi_krum", "m": 5}).rule.options()["m"]
        5
    """

    @model_validator(mode="before")
    @classmethod
    def _no_study(cls, given: Any) -> Any:
        if isinstance(given, dict) and (found := [key for key in STUDY_KEYS if key in given]):
            what = "a key" if len(found) == 1 else "keys"
            raise mistake(
                f"{', '.join(found)}: {what} of a Study and not of a Run: for byzax.run and byzax.Study, leave out here"
            )
        return given
