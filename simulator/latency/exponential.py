"""Exponential times."""

from byzax.simulator.latency.base import Latency, Positive, positive


def exponential(*, mean: Positive = 1.0) -> Latency:
    """Times without memory: how long a job has taken says nothing about how long it will still take.

    Formula: density exp(-x / mean) / mean
    Source: Lee et al., IEEE Trans. Inf. Theory 2018, "Speeding up distributed machine learning using codes"

    Args:
        mean: seconds.

    Raises:
        ValueError: mean <= 0.
    """
    positive("exponential", mean=mean)
    return lambda rng, worker, first, count: rng.exponential(mean, count)
