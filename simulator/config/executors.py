"""Executors, early stopping, what is kept of a run, and what tables give of it."""

from collections.abc import Collection
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, Strict, model_validator

from byzax.simulator.config.base import Count, Description
from byzax.simulator.config.choices import NamedOneOf


class EarlyStopping(Description, frozen=True):
    """The end of a run before its last update, where the model gets no better on the validation samples."""

    patience: Count = Field(default=5, description="Evaluations in a row without a new best one that end the run.")
    measure: Literal["validation_loss", "validation_accuracy"] = Field(
        default="validation_loss", description="The measure that should get better."
    )


class Recording(Description, frozen=True):
    """Arrays of a run that are kept on disk, beside its measurements."""

    rows: Count | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Strict(False)] | None = Field(
        default=None,
        description="Updates whose rows, forged rows, aggregate and weights are kept: a number k for every k-th, from "
        "the first, or a list of updates, the first one 0; null: none.",
    )
    weights: bool = Field(
        default=False, description="Keep the share that the rule gave to the row of each worker, for every update."
    )

    def steps(self, count: int) -> Collection[int]:
        """The updates whose rows are kept.

        Args:
            count: Number of updates of the run.

        Returns:
            These updates, from 0.
        """
        if self.rows is None:
            return ()
        return range(0, count, self.rows) if isinstance(self.rows, int) else self.rows


class Snapshots(Description, frozen=True):
    """The states that a run can go on from when it was cut: one file, which the next one replaces."""

    every_s: Annotated[float, Field(gt=0)] | None = Field(
        default=25.0, description="Seconds between two, more where they would take over 2 % of the time; null: any."
    )
    every: Count | None = Field(default=None, description="Updates between two; null: any number.")


class LastEvaluations(Description, frozen=True):
    """The mean of the last evaluations of a run, of which there may be fewer."""

    last: Count = Field(description="Number of evaluations.")


# What tables give of a run.
ReportField: TypeAlias = Literal["last", "best", "area"] | LastEvaluations


class Loop(Description, frozen=True):
    """The reference: one worker after the other in this process; defines the numbers."""

    name: Literal["loop"] = "loop"


class MeshSize(Description, frozen=True):
    """The devices of `vectorised`: the GPUs of this machine, or on CPU threads that JAX takes for devices."""

    workers: Count = Field(
        default=1,
        description="Devices that share the jobs and the rule of an update; its last bits depend on this number, and "
        "not on that of the cores.",
    )


class Vectorised(Description, frozen=True):
    """Whole rounds compiled, workers and repeats batched; each update within rtol 1e-5 of `loop`."""

    name: Literal["vectorised"] = "vectorised"
    mesh: MeshSize = MeshSize()
    state_memory_gib: Annotated[float, Field(gt=0)] = Field(
        default=1.0,
        description="Memory for what workers remember (momentum, variance reduction, errors of compression) where "
        "updates of one server take some of them, of those that ever take part; beyond it the states of workers that "
        "are not at work are in a file in the folder of temporary files ($TMPDIR), GiB.",
    )


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
ExecutorField: TypeAlias = Annotated[Loop | Vectorised | Ray, NamedOneOf("executor", Loop, Vectorised, Ray)]


def devices_of(executor: Loop | Vectorised | Ray) -> int:
    """The number of devices that an executor needs in its process."""
    return executor.mesh.workers if isinstance(executor, Vectorised) else 1
