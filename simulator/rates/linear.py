"""A learning rate that falls along a line."""

import optax

from byzax.simulator.rates.base import Count, NotNegative, Positive, Rate, falling


def linear(updates: int, *, start: Positive = 0.1, final: NotNegative = 0.0, steps: Count | None = None) -> Rate:
    """The rate falls by the same amount at every update, and stays where it has come to.

    Formula: start + (final - start) min(t / steps, 1)
    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD" (its warm-up, turned round); usual in NLP

    Args:
        final: where it comes to.
        steps: updates until then; null: all of the run.

    Raises:
        ValueError: start <= 0, final outside [0, start].
    """
    falling("linear", start, final)
    return optax.schedules.linear_schedule(start, final, steps or updates)
