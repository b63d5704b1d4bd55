"""A rule of the tests with a state: the running mean of its aggregates."""

import jax.numpy as jnp

from byzax.aggregators.base import Aggregator, Info


def remembering(n: int, f: int) -> Aggregator:
    """Half the mean of the rows, half what it gave before.

    Condition: none
    Cost: O(n d)

    References:
        Made for the tests
    """

    def apply(rows, state, context=None):
        aggregate = (jnp.asarray(rows).mean(0) + state) / 2
        return aggregate, aggregate, Info()

    return Aggregator(lambda d: jnp.zeros(d), apply)
