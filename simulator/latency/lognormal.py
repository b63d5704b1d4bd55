"""Lognormally distributed latency."""

import math

from byzax.options import checked
from byzax.simulator.latency.base import Latency, NotNegative, Positive


@checked
def lognormal(*, median: Positive = 1.0, sigma: NotNegative = 0.5) -> Latency:
    """Draws lognormal durations, products of many small factors: a few jobs take several times the median.

    Formula: median exp(sigma z), z standard normal; the mean is median exp(sigma² / 2)

    Args:
        median: Median duration of a job in seconds.
        sigma: Standard deviation of the logarithm.

    Returns:
        The latency model.

    Raises:
        OptionError: For an option out of its range.

    References:
        Limpert, Stahel and Abbt, BioScience 2001, "Log-normal distributions across the sciences"
    """
    return lambda rng, worker, first, count: rng.lognormal(math.log(median), sigma, count)
