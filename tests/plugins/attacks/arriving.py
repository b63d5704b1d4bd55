"""An attack of the tests that shows the model to which the update would lead."""

import jax.numpy as jnp

from byzax.attacks.base import Attack


def arriving(n: int, f: int) -> Attack:
    """Sends the model that the server would have after the update without the attack.

    Formula: the model after the rule's answer to the rows as they are
    Knows: all honest rows, the rule, the model, the optimizer

    References:
        Made for the tests
    """

    def forge(key, view, state):
        return jnp.broadcast_to(view.after(view.ask_rule(view.rows).aggregate), view.rows.shape), state

    return Attack(forge=forge, needs=frozenset({"ask_rule", "after"}))
