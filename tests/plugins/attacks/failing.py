"""An attack of the tests whose data poisoning raises inside the worker's job."""

from byzax.attacks.base import Attack


def failing(n: int, f: int) -> Attack:
    """Raises when a batch is corrupted.

    Formula: none
    Knows: nothing

    References:
        Made for the tests
    """

    def corrupt(key, batch):
        raise ArithmeticError("this batch cannot be corrupted")

    return Attack(corrupt=corrupt)
