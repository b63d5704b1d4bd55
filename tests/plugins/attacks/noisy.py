"""An attack of the tests whose data poisoning is random."""

import jax

from byzax.attacks.base import Attack


def noisy(n: int, f: int) -> Attack:
    """Byzantine workers train on samples with noise.

    Formula: x -> x + N(0, I) in every batch
    Knows: own row

    References:
        Made for the tests
    """

    def corrupt(key, batch):
        return batch._replace(x=batch.x + jax.random.normal(key, batch.x.shape))

    return Attack(corrupt=corrupt)
