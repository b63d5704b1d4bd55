"""The type of a learning rate schedule, and what the files of this folder share."""

from typing import Annotated, Any, Protocol

from pydantic import Field

from byzax.options import OptionError

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Rate(Protocol):
    """A learning rate that depends on the number of updates made before."""

    def __call__(self, step: Any, /) -> Any:
        """Gives the learning rate of the next update.

        Args:
            step: Number of updates made before, a number or a traced array.

        Returns:
            The learning rate, a number or an array of the shape of `step`.
        """
        ...


def check_final(start: float, final: float) -> None:
    """Raises OptionError for a final learning rate above the first one.

    Args:
        start: Learning rate of the first update.
        final: Learning rate at the end.
    """
    if final > start:
        raise OptionError("final", f"must be at most start = {start:g}, got {final:g}")
