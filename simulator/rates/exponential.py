"""Exponential decay of the learning rate."""

import optax

from byzax.options import checked
from byzax.simulator.rates.base import Count, Positive, Rate


@checked
def exponential(updates: int, *, start: Positive = 0.1, every: Count = 1, factor: Positive = 0.99) -> Rate:
    """Multiplies the rate by a constant a little below 1 at every update.

    Formula: start factor^(t / every)

    Args:
        updates: Number of updates of the run.
        start: Learning rate of the first update.
        every: Number of updates in which the rate is multiplied by `factor` once.
        factor: The factor.

    Returns:
        The schedule.

    Raises:
        OptionError: For an option out of its range.

    References:
        Reddi et al., ICLR 2021, "Adaptive Federated Optimization" (for the workers' steps; there in stairs too)
    """
    return optax.schedules.exponential_decay(start, every, factor)
