"""What a latency model is: the type and the checks shared by every file of this folder."""

from collections.abc import Callable
from typing import Annotated

import numpy as np
from pydantic import Field

# (random generator of this worker's own, worker, first job, count) -> seconds of so many jobs, [count], each >= 0. It
# is asked for a worker's jobs in order, and draws as many numbers for each: the blocks asked for change nothing.
Latency = Callable[[np.random.Generator, int, int, int], np.ndarray]

NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


def not_negative(name: str, **values: float) -> None:
    """Raises ValueError unless all values are finite and at least 0."""
    for option, value in values.items():
        if not (0 <= value < float("inf")):
            raise ValueError(f"{name} needs {option} >= 0, got {value}")


def positive(name: str, **values: float) -> None:
    """Raises ValueError unless all values are finite and above 0."""
    for option, value in values.items():
        if not (0 < value < float("inf")):
            raise ValueError(f"{name} needs {option} > 0, got {value}")
