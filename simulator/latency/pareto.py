"""Pareto-distributed latency: a heavy tail of slow jobs."""

from byzax.options import checked
from byzax.simulator.latency.base import Latency, Positive


@checked
def pareto(*, scale: Positive = 1.0, alpha: Positive = 2.0) -> Latency:
    """Draws Pareto durations, whose tail is heavy: now and then a job takes very long; alpha <= 1 has an infinite mean.

    Formula: P(x > t) = (scale / t)^alpha for t >= scale

    Args:
        scale: Least duration of a job in seconds.
        alpha: Exponent of the tail; the smaller, the heavier.

    Returns:
        The latency model.

    Raises:
        OptionError: For an option out of its range.

    References:
        Dean and Barroso, CACM 2013, "The tail at scale" (of tails, not of this law); Wang, Joshi and Wornell
        2015, "Using straggler replication to reduce latency in large-scale parallel computing"
    """
    return lambda rng, worker, first, count: scale * (1 + rng.pareto(alpha, count))
