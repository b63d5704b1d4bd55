"""Pareto times: a heavy tail."""

from byzax.simulator.latency.base import Latency, Positive, positive


def pareto(*, scale: Positive = 1.0, alpha: Positive = 2.0) -> Latency:
    """Heavy tails: now and then a job takes very long; with alpha <= 1 the mean is infinite.

    Formula: P(x > t) = (scale / t)^alpha for t >= scale
    Source: Dean and Barroso, CACM 2013, "The tail at scale" (of tails, not of this law); Wang, Joshi and Wornell
        2015, "Using straggler replication to reduce latency in large-scale parallel computing"

    Args:
        scale: the least time, seconds.
        alpha: the tail's exponent; the smaller, the heavier.

    Raises:
        ValueError: scale <= 0 or alpha <= 0.
    """
    positive("pareto", scale=scale, alpha=alpha)
    return lambda rng, worker, first, count: scale * (1 + rng.pareto(alpha, count))
