"""Inverse-time decay of the learning rate (Robbins and Monro 1951)."""

from byzax.options import checked
from byzax.simulator.rates.base import Positive, Rate


@checked
def inverse_time(updates: int, *, start: Positive = 0.1, half_at: Positive) -> Rate:
    """Lowers the rate as 1/t: the sum of the rates grows without bound, the sum of their squares does not.

    Formula: start half_at / (t + half_at)

    Args:
        updates: Number of updates of the run.
        start: Learning rate of the first update.
        half_at: Number of updates after which half of it is left.

    Returns:
        The schedule.

    Raises:
        OptionError: For an option out of its range.

    References:
        Robbins and Monro 1951; El Mhamdi et al., ICML 2018, section 5 (half_at 10000)
    """
    return lambda step: start * half_at / (step + half_at)
