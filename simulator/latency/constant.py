"""Constant latency: every job takes the same time."""

import numpy as np

from byzax.options import checked
from byzax.simulator.latency.base import Latency, NotNegative


@checked
def constant(*, seconds: NotNegative = 1.0) -> Latency:
    """Gives every job of every worker the same duration.

    Formula: seconds

    Args:
        seconds: Duration of a job in seconds.

    Returns:
        The latency model.

    Raises:
        OptionError: For `seconds` out of its range.

    References:
        The ideal machine of bulk-synchronous training
    """
    return lambda rng, worker, first, count: np.full(count, seconds)
