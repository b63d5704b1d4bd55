"""An attack of the tests that can be traced, and fails when it is computed."""

import jax

from byzax.attacks.base import Attack


def crashing(n: int, f: int) -> Attack:
    """Raises when a batch is corrupted, outside of what JAX sees.

    Formula: none
    Knows: nothing

    References:
        Made for the tests
    """

    def crash(x):
        raise ArithmeticError("this batch cannot be corrupted")

    def corrupt(key, batch):
        return batch._replace(x=jax.pure_callback(crash, jax.ShapeDtypeStruct(batch.x.shape, batch.x.dtype), batch.x))

    return Attack(corrupt=corrupt)
