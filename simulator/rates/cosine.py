"""A learning rate that falls along half a cosine."""

import optax

from byzax.simulator.rates.base import Count, NotNegative, Positive, Rate, falling


def cosine(updates: int, *, start: Positive = 0.1, final: NotNegative = 0.0, steps: Count | None = None) -> Rate:
    """The rate falls slowly, then fast, then slowly again, and stays where it has come to.

    Formula: final + (start - final) (1 + cos(pi min(t / steps, 1))) / 2
    Source: Loshchilov and Hutter, ICLR 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", equation 5

    Args:
        final: where it comes to.
        steps: updates until then; null: all of the run.

    Raises:
        ValueError: start <= 0, final outside [0, start].
    """
    falling("cosine", start, final)
    return optax.schedules.cosine_decay_schedule(start, steps or updates, alpha=final / start)
