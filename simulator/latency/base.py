"""The type of a latency model, and the ranges of options shared by the files of this folder."""

from typing import Annotated, Protocol

import numpy as np
from pydantic import Field

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Latency(Protocol):
    """The durations of a worker's jobs, in seconds of virtual time."""

    def __call__(self, rng: np.random.Generator, worker: int, first: int, count: int, /) -> np.ndarray:
        """Draws the durations of consecutive jobs of one worker.

        A worker's jobs come in order, in blocks of any size. A model has to draw the same count of random numbers for
        every job, so that the sizes of the blocks change nothing.

        Args:
            rng: Random generator of this worker alone.
            worker: Number of the worker.
            first: Number of the first job of the block.
            count: Number of jobs in the block.

        Returns:
            Seconds of each job, `[count]`, each at least 0.
        """
        ...
