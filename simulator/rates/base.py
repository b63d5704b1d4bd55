"""What the schedule of a learning rate is: the type and the checks shared by every file of this folder."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

# how many updates were made before, a number or a traced array, -> the learning rate of the next one
Rate = Callable[[Any], Any]

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def positive(name: str, **values: float) -> None:
    """Raises ValueError unless all values are finite and above 0."""
    for option, value in values.items():
        if not (0 < value < float("inf")):
            raise ValueError(f"{name} needs {option} > 0, got {value}")


def falling(name: str, start: float, final: float) -> None:
    """Raises ValueError unless 0 <= final <= start and start > 0."""
    positive(name, start=start)
    if not 0 <= final <= start:
        raise ValueError(f"{name} needs 0 <= final <= start: with start {start:g} final cannot be {final:g}")
