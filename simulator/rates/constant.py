"""Constant learning rate."""

from byzax.options import checked
from byzax.simulator.rates.base import Positive, Rate


@checked
def constant(updates: int, *, start: Positive = 0.1) -> Rate:
    """Uses the same learning rate for every update; a number in place of a schedule means this, without a warm-up.

    Formula: start

    Args:
        updates: Number of updates of the run.
        start: The learning rate.

    Returns:
        The schedule.

    Raises:
        OptionError: For `start` out of its range.

    References:
        Robbins and Monro, Annals of Mathematical Statistics 1951 (whose steps fall; this is the exception to it)
    """
    return lambda step: start
