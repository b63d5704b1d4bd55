"""A learning rate that falls in steps."""

import optax

from byzax.simulator.rates.base import Count, Positive, Rate, positive


def step(updates: int, *, start: Positive = 0.1, every: Count, factor: Positive = 0.1) -> Rate:
    """The rate is multiplied by a factor after every so many updates, and stays in between.

    Formula: start factor^floor(t / every)
    Source: He et al., CVPR 2016, "Deep Residual Learning" (divided by 10 where the error no longer falls)

    Args:
        every: updates from one change to the next.
        factor: what the rate is multiplied by.

    Raises:
        ValueError: start or factor <= 0, or every < 1.
    """
    positive("step", start=start, every=every, factor=factor)
    return optax.schedules.exponential_decay(start, every, factor, staircase=True)
