"""Step decay of the learning rate (He et al. 2016)."""

import optax

from byzax.options import checked
from byzax.simulator.rates.base import Count, Positive, Rate


@checked
def step(updates: int, *, start: Positive = 0.1, every: Count, factor: Positive = 0.1) -> Rate:
    """Multiplies the rate by a factor after every so many updates, and keeps it in between.

    Formula: start factor^floor(t / every)

    Args:
        updates: Number of updates of the run.
        start: Learning rate of the first update.
        every: Number of updates from one change to the next.
        factor: Factor of the rate at each change.

    Returns:
        The schedule.

    Raises:
        OptionError: For an option out of its range.

    References:
        He et al., CVPR 2016, "Deep Residual Learning" (divided by 10 where the error no longer falls)
    """
    return optax.schedules.exponential_decay(start, every, factor, staircase=True)
