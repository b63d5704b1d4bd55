"""Lognormal times."""

import math

from byzax.simulator.latency.base import Latency, NotNegative, Positive, not_negative, positive


def lognormal(*, median: Positive = 1.0, sigma: NotNegative = 0.5) -> Latency:
    """Many small factors multiplied: half of the jobs take less than the median, a few take several times as long.

    Formula: median exp(sigma z), z standard normal; the mean is median exp(sigma² / 2)
    Source: Limpert, Stahel and Abbt, BioScience 2001, "Log-normal distributions across the sciences"

    Args:
        median: seconds.
        sigma: standard deviation of the logarithm.

    Raises:
        ValueError: median <= 0 or sigma < 0.
    """
    positive("lognormal", median=median)
    not_negative("lognormal", sigma=sigma)
    return lambda rng, worker, first, count: rng.lognormal(math.log(median), sigma, count)
