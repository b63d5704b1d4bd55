"""Shifted exponential latency: a least duration and an exponential delay."""

from byzax.options import checked
from byzax.simulator.latency.base import Latency, NotNegative, Positive


@checked
def shifted_exponential(*, shift: NotNegative = 1.0, mean: Positive = 0.5) -> Latency:
    """Adds an exponential delay to a duration that every job takes: the usual model of stragglers.

    Formula: shift + x, density of x exp(-x / mean) / mean

    Args:
        shift: Least duration of a job in seconds.
        mean: Mean of the delay in seconds.

    Returns:
        The latency model.

    Raises:
        OptionError: For an option out of its range.

    References:
        Lee et al., IEEE Trans. Inf. Theory 2018; Dutta et al., AISTATS 2018, "Slow and
        stale gradients can win the race"
    """
    return lambda rng, worker, first, count: shift + rng.exponential(mean, count)
