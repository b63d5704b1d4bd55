"""A learning rate that falls exponentially."""

import optax

from byzax.simulator.rates.base import Count, Positive, Rate, positive


def exponential(updates: int, *, start: Positive = 0.1, every: Count = 1, factor: Positive = 0.99) -> Rate:
    """The rate is multiplied by a little less than one at every update.

    Formula: start factor^(t / every)
    Source: Reddi et al., ICLR 2021, "Adaptive Federated Optimization" (for the workers' steps; there in stairs too)

    Args:
        every: updates in which the rate is multiplied by `factor` once.
        factor: what the rate is multiplied by in so many updates.

    Raises:
        ValueError: start or factor <= 0, or every < 1.
    """
    positive("exponential", start=start, every=every, factor=factor)
    return optax.schedules.exponential_decay(start, every, factor)
