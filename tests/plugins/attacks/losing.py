"""An attack of the tests that shows the loss it is told."""

from byzax.attacks.base import Attack


def losing(n: int, f: int) -> Attack:
    """Sends the loss that it is told in every place.

    Formula: loss of the model
    Knows: a loss

    References:
        Made for the tests
    """

    def forge(key, view, state):
        return view.rows * 0 + view.loss(view.params), state

    return Attack(forge=forge, needs=frozenset({"loss"}))
