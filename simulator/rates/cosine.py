"""Cosine decay of the learning rate (Loshchilov and Hutter 2017)."""

import optax

from byzax.options import checked
from byzax.simulator.rates.base import Count, NotNegative, Positive, Rate, check_final


@checked
def cosine(updates: int, *, start: Positive = 0.1, final: NotNegative = 0.0, steps: Count | None = None) -> Rate:
    """Lowers the rate along half a cosine, slowly, then fast, then slowly, and keeps the last value.

    Formula: final + (start - final) (1 + cos(pi min(t / steps, 1))) / 2

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
        Loshchilov and Hutter, ICLR 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5
    """
    check_final(start, final)
    return optax.schedules.cosine_decay_schedule(start, steps or updates, alpha=final / start)
