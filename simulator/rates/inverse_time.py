"""A learning rate that falls as one over time."""

from byzax.simulator.rates.base import Positive, Rate, positive


def inverse_time(updates: int, *, start: Positive = 0.1, half_at: Positive) -> Rate:
    """The rate falls as 1/t does: its sum grows without bound, that of its squares does not.

    Formula: start half_at / (t + half_at)
    Source: Robbins and Monro 1951; El Mhamdi et al., ICML 2018, section 5 (half_at 10000)

    Args:
        half_at: updates after which half of it is left.

    Raises:
        ValueError: start or half_at <= 0.
    """
    positive("inverse_time", start=start, half_at=half_at)
    return lambda step: start * half_at / (step + half_at)
