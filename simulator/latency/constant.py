"""The same time for every job."""

import numpy as np

from byzax.simulator.latency.base import Latency, NotNegative, not_negative


def constant(*, seconds: NotNegative = 1.0) -> Latency:
    """Every job takes as long as every other.

    Formula: seconds
    Source: the ideal machine of bulk-synchronous training

    Args:
        seconds: of a job.

    Raises:
        ValueError: seconds < 0.
    """
    not_negative("constant", seconds=seconds)
    return lambda rng, worker, first, count: np.full(count, seconds)
