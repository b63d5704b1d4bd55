"""Exponential times above a least one."""

from byzax.simulator.latency.base import Latency, NotNegative, Positive, not_negative, positive


def shifted_exponential(*, shift: NotNegative = 1.0, mean: Positive = 0.5) -> Latency:
    """A time that every job takes, and an exponential delay on top: the usual model of stragglers.

    Formula: shift + x, density of x exp(-x / mean) / mean
    Source: Lee et al., IEEE Trans. Inf. Theory 2018; Dutta et al., AISTATS 2018, "Slow and
        stale gradients can win the race"

    Args:
        shift: the least time, seconds.
        mean: of the delay, seconds.

    Raises:
        ValueError: shift < 0 or mean <= 0.
    """
    not_negative("shifted_exponential", shift=shift)
    positive("shifted_exponential", mean=mean)
    return lambda rng, worker, first, count: shift + rng.exponential(mean, count)
