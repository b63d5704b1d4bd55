"""The data set and its partition, and the model."""

from typing import Annotated, TypeAlias

from pydantic import Field, Strict

from byzax.simulator.batches import Batches
from byzax.simulator.config.base import Count, Seed
from byzax.simulator.config.part import Choice, Part
from byzax.simulator.data.base import TestBy
from byzax.simulator.normalising import Normalise

# The names in flwr-datasets and byzfl, which a scenario may use with the options of ours.
ALIASES = {
    "pathological": "by_label",
    "shard": "shards",
    "natural_id": "by_writer",
    "grouped_natural_id": "by_writer",
    "continuous": "feature_skew",
    "gamma_similarity": "similarity",
    "gamma_similarity_niid": "similarity",
    "dirichlet_niid": "dirichlet",
    "extreme_niid": "extreme",
}
PartitionField: TypeAlias = Annotated[Part, Choice("partition", aliases=ALIASES)]
AugmentationField: TypeAlias = Annotated[Part, Choice("augmentation")]


class DataPart(Part, frozen=True):
    """A data set and its partition among the workers."""

    partition: PartitionField = Field(
        default="iid", validate_default=True, description="Split of the training data over workers."
    )
    seed: Seed | None = Field(
        default=None,
        description="Seed of the split into training, validation and test samples and the partition; null: the run's.",
    )
    batch_size: Count = Field(default=32, description="Samples a worker draws for one job.")
    batches: Batches = Field(
        default="replacement",
        description="Draw of a batch: with replacement, without, or every sample by itself at the rate that makes "
        "batch_size of them in the mean (poisson, for `privacy` of level sample).",
    )
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
        description="Unit of the share `test`: samples, or owners (writers, speakers, devices), held by no worker.",
    )
    normalise: Normalise = Field(
        default="none",
        description="Samples on one scale, by the training samples: in [0, 1] (unit), or of mean 0 and deviation 1.",
    )
    augment: Annotated[tuple[AugmentationField, ...], Strict(False)] = Field(
        default=(), description="Augmentations of the images that workers train on, in this order."
    )


class ModelPart(Part, frozen=True):
    """A model and the seed of its first parameters."""

    seed: Seed | None = Field(default=None, description="Seed of the first parameters; null: the run's.")


DataField: TypeAlias = Annotated[DataPart, Choice("data", DataPart)]
ModelField: TypeAlias = Annotated[ModelPart, Choice("model", ModelPart)]
