"""An attack of the tests with a state, which also asks the rule in use."""

import jax.numpy as jnp

from attacks.base import Attack


def counting(n: int, f: int) -> Attack:
    """The j-th forged update is -j times what the rule makes of the rows without the attack.

    Formula: -j rule(rows)
    Knows: all honest rows, the rule
    Source: made for the tests
    """

    def forge(key, view, state):
        state = state + 1
        return jnp.broadcast_to(-0.1 * state * view.aggregate(view.rows), view.rows.shape), state

    return Attack(init=lambda d: jnp.zeros(()), forge=forge)
