"""Learning rates: a number, or a schedule by the number of updates made before."""

from typing import Annotated, TypeAlias

from pydantic import Field

from byzax.simulator.config.choices import Either
from byzax.simulator.config.part import Choice, Part


class RatePart(Part, frozen=True):
    """A schedule of the learning rate over a run."""

    warm_up: int = Field(
        default=0, ge=0, description="Updates before it begins, in which the rate rises in equal steps to its start."
    )


Positive = Annotated[float, Field(gt=0)]
RateField: TypeAlias = Annotated[float | RatePart, Either(Positive, Choice("rate", RatePart))]
OptimizerField: TypeAlias = Annotated[Part, Choice("optimizer")]
