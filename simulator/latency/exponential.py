"""Exponentially distributed latency."""

from byzax.options import checked
from byzax.simulator.latency.base import Latency, Positive


@checked
def exponential(*, mean: Positive = 1.0) -> Latency:
    """Draws exponential durations, which have no memory: the time still to go is independent of the time spent.

    Formula: density exp(-x / mean) / mean

    Args:
        mean: Mean duration of a job in seconds.

    Returns:
        The latency model.

    Raises:
        OptionError: For `mean` out of its range.

    References:
        Lee et al., IEEE Trans. Inf. Theory 2018, "Speeding up distributed machine learning using codes"
    """
    return lambda rng, worker, first, count: rng.exponential(mean, count)
