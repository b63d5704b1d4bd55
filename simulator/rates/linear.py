"""Linear decay of the learning rate."""

import optax

from byzax.options import checked
from byzax.simulator.rates.base import Count, NotNegative, Positive, Rate, check_final


@checked
def linear(updates: int, *, start: Positive = 0.1, final: NotNegative = 0.0, steps: Count | None = None) -> Rate:
    """Lowers the rate by the same amount at every update, and keeps the last value.

    Formula: start + (final - start) min(t / steps, 1)

    Args:
        updates: Number of updates of the run.
        start: Learning rate of the first update.
        final: Learning rate at the end, at most `start`.
        steps: Number of updates until then. None: all of the run.

    Returns:
        The schedule.

    Raises:
        OptionError: For an option out of its range, or `final` above `start`.

    References:
        Goyal et al. 2017, "Accurate, Large Minibatch SGD" (its warm-up, in the other direction); usual in NLP
    """
    check_final(start, final)
    return optax.schedules.linear_schedule(start, final, steps or updates)
