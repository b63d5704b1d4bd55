"""A constant learning rate."""

from byzax.simulator.rates.base import Positive, Rate, positive


def constant(updates: int, *, start: Positive = 0.1) -> Rate:
    """The same rate for every update: what a bare number stands for, with a warm-up if that is asked for.

    Formula: start
    Source: Robbins and Monro, Annals of Mathematical Statistics 1951 (whose steps fall; this is the exception to it)

    Raises:
        ValueError: start <= 0.
    """
    positive("constant", start=start)
    return lambda step: start
