"""A study: runs that differ in the values of a grid and in their seeds, with their executor and evaluation."""

from typing import NamedTuple, Self

from pydantic import Field, model_validator

from byzax.simulator.config.base import SEEDS, Count, FrozenDict, Name, parse_as
from byzax.simulator.config.combinations import FurtherSweep, Grid, ListOf, Pattern
from byzax.simulator.config.executors import (
    EarlyStopping,
    ExecutorField,
    Loop,
    Recording,
    ReportField,
    Snapshots,
    Vectorised,
)
from byzax.simulator.config.loggers import LogField
from byzax.simulator.config.measures import MeasureFields
from byzax.simulator.config.run import Run, Settings


class Task(NamedTuple):
    """The work of an executor: runs that differ in their seed alone, with the executor and the evaluation.

    Attributes:
        run: The settings of all of them.
        seeds: The seed of each.
        executor: The executor.
        evaluate_every: Updates between two evaluations; the first and the last model are always evaluated.
        early_stopping: FurtherSweep on which a run ends before its last update; None for never.
        record: Arrays that are kept.
        measure: Measurements besides losses and accuracies.
    """

    run: Run
    seeds: tuple[int, ...]
    executor: ExecutorField
    evaluate_every: int
    early_stopping: EarlyStopping | None
    record: Recording = Recording()
    measure: MeasureFields = ()

    @property
    def repeats(self) -> "list[Task]":
        """The same task for each seed alone."""
        return [self._replace(run=self.run.replace(seed=seed), seeds=(seed,)) for seed in self.seeds]


class Study(Settings, frozen=True):
    """A training run for each combination of `grid` and each of `repeats` seeds: what a scenario file describes.

    Hashable as a `Run` is, and frozen with all that is in its grid; copies (`replace`) are checked.
    """

    name: Name = Field(default="study", description="Names the results.")
    executor: ExecutorField = Field(default=Loop(), description="loop, vectorised or ray.")
    evaluate_every: Count = Field(
        default=10, description="Updates between two evaluations; the first and the last model are always evaluated."
    )
    early_stopping: EarlyStopping | None = Field(default=None, description="null: every run goes to its last update.")
    measure: MeasureFields = Field(
        default=(),
        description="What is measured at evaluations besides losses and accuracies: one, or a list.",
    )
    log: LogField = Field(
        default=(),
        description="Loggers that are told the measurements of runs too: one, or a list; no part of a run's identity.",
    )
    record: Recording = Recording()
    snapshots: Snapshots | None = Field(
        default=Snapshots(), description="What a run goes on from when it was cut; null: it begins again."
    )
    repeats: Count = Field(default=1, le=10_000, description="Runs with the seeds seed, seed + 1, ...")
    report: ReportField = Field(
        default="last",
        description="What tables give of a run: last, best, area (the mean over its updates, by the area under its "
        "curve), or the mean of the last evaluations.",
    )
    skip_impossible: bool = Field(
        default=False,
        description="Leave out, and list, combinations of the grid whose numbers do not go together, such as n and f.",
    )
    grid: Grid = Field(
        default_factory=FrozenDict,
        description="Dotted key to list of values, or to a range {from: 1, to: 4}: every combination is a run.",
    )
    zip: ListOf[Grid] = Field(
        default=(),
        description="Keys whose values go together, the first of each, the second of each, ...; every combination with "
        "those of grid. One mapping, or a list of them.",
    )
    when: ListOf[FurtherSweep] = Field(
        default=(), description="Further keys that are swept in those combinations alone that have given values."
    )
    exclude: ListOf[Pattern] = Field(
        default=(),
        description="Combinations that are left out: those with all values of a mapping, of a list any one.",
    )
    include: ListOf[Pattern] = Field(
        default=(), description="Single combinations besides: dotted key to value, over the scenario's own."
    )

    @model_validator(mode="after")
    def _executable(self) -> Self:
        if self.clock == "wall" and self.executor.name != "ray":
            raise ValueError(f"clock: wall needs racing workers: executor ray, not {self.executor.name}")
        parts = self.executor.mesh.workers if isinstance(self.executor, Vectorised) else 1
        if parts > self.workers.total:
            raise ValueError(
                f"executor.mesh.workers: {parts} parts would share {self.workers.total} workers: "
                f"take at most {self.workers.total}"
            )
        if self.early_stopping and not self.data.validation:
            raise ValueError("early_stopping: needs validation samples, and data.validation is 0: such as 0.1")
        names = [each.name for each in self.measure]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"measure: {twice[0]} stands there twice: once is enough")
        if late := [step for step in self.record.steps(self.steps) if step >= self.steps]:
            raise ValueError(
                f"record.rows: update {late[0]} is beyond the last one, {self.steps - 1} (steps is {self.steps})"
            )
        if self.seed + self.repeats > SEEDS:
            raise ValueError(
                f"seed: the repeats need the seeds {self.seed} to {self.seed + self.repeats - 1}, and seeds are below "
                f"{SEEDS}: take a smaller seed"
            )
        return self

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each repeat."""
        return tuple(range(self.seed, self.seed + self.repeats))

    @property
    def run(self) -> Run:
        """The first run, without the grid."""
        settings = {name: getattr(self, name) for name in Settings.model_fields if name in self.model_fields_set}
        return parse_as(Run, settings)

    @property
    def task(self) -> Task:
        """All repeats, without the grid."""
        return Task(
            self.run, self.seeds, self.executor, self.evaluate_every, self.early_stopping, self.record, self.measure
        )
