"""Measurements of a model besides losses and accuracy, all of them from its confusion matrix on the test samples."""

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self, TypeAlias

import numpy as np
from pydantic import BeforeValidator, Field, Strict, model_validator

from byzax.simulator.config.base import Description
from byzax.simulator.config.choices import NamedOneOf

Label = Annotated[int, Field(ge=0)]


class FurtherMeasure(Description, frozen=True):
    """A measurement of a classifier.

    Attributes:
        columns: Its columns in `metrics.csv`.
    """

    columns: ClassVar[tuple[str, ...]] = ()

    def values(self, confusion: np.ndarray, shares: np.ndarray) -> tuple[float, ...]:
        """The values of its columns.

        Args:
            confusion: `[classes, classes + 1]`, the number of test samples of each label (rows) with each prediction;
                in the last column are those with none, as where an output is NaN.
            shares: `[h, classes]`, the share of each label among the samples of each honest worker.

        Returns:
            One for each column; NaN where the samples do not tell.
        """
        return ()


class BalancedAccuracy(FurtherMeasure, frozen=True):
    """The mean over the labels of the accuracy on the samples of each: common labels count no more than rare ones."""

    name: Literal["balanced_accuracy"] = "balanced_accuracy"
    columns: ClassVar = ("balanced_accuracy",)

    def values(self, confusion: np.ndarray, shares: np.ndarray) -> tuple[float, ...]:
        """See `FurtherMeasure.values`. Labels without a test sample are left out."""
        return (float(np.nanmean(recalls(confusion))),)


class ClassAccuracy(FurtherMeasure, frozen=True):
    """The accuracy on the samples of each label, at each evaluation: `classes.csv`."""

    name: Literal["class_accuracy"] = "class_accuracy"


class ConfusionMatrix(FurtherMeasure, frozen=True):
    """The confusion matrix of the last model: `confusion.csv`."""

    name: Literal["confusion"] = "confusion"


class WorkerAccuracy(FurtherMeasure, frozen=True):
    """The accuracy on test samples with the labels of each honest worker: the mean over workers, and the worst tenth.

    For each worker the accuracies of the labels are weighed by their shares among its own samples.
    """

    name: Literal["worker_accuracy"] = "worker_accuracy"
    columns: ClassVar = ("worker_accuracy", "worst_workers_accuracy")

    def values(self, confusion: np.ndarray, shares: np.ndarray) -> tuple[float, ...]:
        """See `FurtherMeasure.values`. Labels without a test sample are left out of each worker's mean."""
        known = recalls(confusion)
        tested = shares * ~np.isnan(known)
        held = tested.sum(axis=1)
        # a worker all of whose labels have no test sample says nothing
        each = np.sort((tested[held > 0] @ np.nan_to_num(known)) / held[held > 0])
        if not len(each):
            return math.nan, math.nan
        return float(each.mean()), float(each[: math.ceil(len(each) / 10)].mean())


class FlipSuccess(FurtherMeasure, frozen=True):
    """The success of a targeted label flip: samples of one label that are taken for another.

    Also measured in runs without the attack: that is the floor of its success.
    """

    name: Literal["flip_success"] = "flip_success"
    source: Label = Field(default=0, description="The label that the attack replaces.")
    target: Label = Field(default=1, description="The label by which it replaces it.")
    columns: ClassVar = ("flip_success", "source_accuracy", "target_accuracy")

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.source == self.target:
            raise ValueError(f"target must be another label than the source, got {self.target} for both")
        return self

    def values(self, confusion: np.ndarray, shares: np.ndarray) -> tuple[float, ...]:
        """See `FurtherMeasure.values`: the share of the source's samples taken for the target, and both accuracies."""
        size = confusion.sum(axis=1)[self.source]
        known = recalls(confusion)
        success = confusion[self.source, self.target] / size if size else math.nan
        return float(success), float(known[self.source]), float(known[self.target])


# A measure by its name, or a mapping of name and options.
MeasureField: TypeAlias = Annotated[
    BalancedAccuracy | ClassAccuracy | ConfusionMatrix | WorkerAccuracy | FlipSuccess,
    NamedOneOf("measure", BalancedAccuracy, ClassAccuracy, ConfusionMatrix, WorkerAccuracy, FlipSuccess),
]
# One, or a list of them.
MeasureFields = Annotated[
    tuple[MeasureField, ...],
    Strict(False),
    BeforeValidator(lambda given: given if isinstance(given, (list, tuple)) else (given,)),
]
# All columns that a measure may have.
MEASURE_COLUMNS = [*BalancedAccuracy.columns, *WorkerAccuracy.columns, *FlipSuccess.columns]


def recalls(confusion: np.ndarray) -> np.ndarray:
    """The accuracy on the samples of each label.

    Args:
        confusion: `[classes, classes + 1]`, as of `FurtherMeasure.values`.

    Returns:
        `[classes]`; NaN for a label without a sample.
    """
    sizes = confusion.sum(axis=1)
    return np.where(sizes > 0, np.diagonal(confusion) / np.maximum(sizes, 1), math.nan)


def columns_of(measures: Sequence[FurtherMeasure]) -> list[str]:
    """The columns of measures in `metrics.csv`, in order.

    Args:
        measures: The measures.

    Returns:
        Their names.
    """
    return [column for each in measures for column in each.columns]
