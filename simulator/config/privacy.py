"""Differential privacy and secure aggregation: the descriptions of both."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from byzax.simulator.config.base import Count, Description


class Privacy(Description, frozen=True):
    """Differential privacy by clipping to `clip` and Gaussian noise of `noise` times the clipped size."""

    level: Literal["sample", "worker", "server"] = Field(
        description="What is clipped: every sample's gradient or the row, at the worker; or the row, at the server."
    )
    clip: Annotated[float, Field(gt=0)] = Field(description="C: the largest length of what is clipped.")
    noise: float = Field(
        ge=0,
        description="sigma: the deviation of the noise is sigma C over the batch size (sample), sigma C (worker), or "
        "sigma C over the number of rows (server); 0 for clipping alone.",
    )
    delta: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=1e-5, description="The delta at which epsilon is reported."
    )
    chunk: Count | None = Field(
        default=None,
        description="With level sample the gradients in memory together; null: as many as have 524,288 numbers.",
    )

    @model_validator(mode="after")
    def _for_samples(self) -> Self:
        if self.chunk is not None and self.level != "sample":
            raise ValueError(f"chunk: is for the gradients of level sample: with level {self.level} leave it out")
        return self


class Masks(Description, frozen=True):
    """Secure aggregation: workers send fixed-point rows under masks that cancel in the sum of their group."""

    groups: Count = Field(
        description="Number of groups, worker i in group i mod groups: the rule sees their means; 1: that of all."
    )
    range: Annotated[float, Field(gt=0)] = Field(
        description="The largest absolute value of a number that a worker sends; larger ones are cut to it."
    )
    bits: Annotated[int, Field(ge=8, le=32)] = Field(default=32, description="b: sums are modulo 2^b.")
    dropped: Literal["recover", "lost"] = Field(
        default="recover",
        description="Where a row of a group does not arrive, its masks are taken out by seeds that others reveal, or "
        "the rule does not see the group.",
    )
