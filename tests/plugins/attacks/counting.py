"""An attack of the tests with a state, which also uses the model and asks the rule in use."""

import jax.numpy as jnp

from byzax.attacks.base import Attack


def counting(n: int, f: int) -> Attack:
    """The j-th update is pulled towards the model, away from what the rule makes of the rows without the attack.

    Formula: (params - j rule(rows)) / 10
    Knows: all honest rows, the rule, the model

    References:
        Made for the tests
    """

    def forge(key, view, state):
        state = state + 1
        return jnp.broadcast_to((view.params - state * view.ask_rule(view.rows).aggregate) / 10, view.rows.shape), state

    return Attack(init=lambda d: jnp.zeros(()), forge=forge, needs=frozenset({"ask_rule"}))
