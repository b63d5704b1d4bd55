"""A rule of the tests that cannot be computed."""

from byzax.aggregators.base import Aggregator


def failing(n: int, f: int) -> Aggregator:
    """Raises when it is first applied.

    Condition: none
    Cost: none

    References:
        Made for the tests
    """

    def apply(rows, state, context=None):
        raise ArithmeticError("this rule always fails")

    return Aggregator(lambda d: (), apply)
