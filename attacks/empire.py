"""Fall of Empires (Xie et al. 2019), or inner-product manipulation: the honest mean, reversed and scaled."""

from typing import Literal

import jax.numpy as jnp

from byzax.attacks._search import Evaluations, build_harm, find_strongest
from byzax.attacks.base import ASKS_RULE, Array, Attack, Finite, View, check, honest_mean, stateless
from byzax.options import checked


@checked
def empire(
    n: int,
    f: int,
    *,
    epsilon: Finite | Literal["search"] = 1.1,
    of: Literal["rows", "models"] = "rows",
    evaluations: Evaluations = 20,
) -> Attack:
    """All Byzantine rows are the honest mean, reversed and scaled, so that the aggregate points uphill.

    The average of all rows is reversed if and only if epsilon > (n - f) / f. A small epsilon hides among the honest
    rows and is aimed at rules that select; a large one is aimed at averages.

    Without a server a row is the way from a node's model to the one that it sends, and a reversed way ends near where
    the node began. ClippedGossip's code reverses the mean of the honest models themselves, `of: models`, which draws
    everybody to zero. It is meant for workers that send models; of others the models are those one step of length 1
    along their rows away.

    Formula: -epsilon * mean of the honest rows, or of the honest models
    Knows: all honest rows

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        epsilon: Length of the Byzantine rows in lengths of the honest mean; "search" takes at every update the one that
            takes the rule in use farthest from the honest mean.
        of: Whether honest rows are reversed, or honest models.
        evaluations: Number of times that a search asks the rule in one update; not used by a given epsilon.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Xie, Koyejo and Gupta 2019, "Fall of Empires"; He, Karimireddy and Jaggi 2022 (of models)
    """
    check("empire", n, f)

    def make_row(key: Array, view: View) -> Array:
        mean = honest_mean(view)

        def reversed_mean(strength: Array | float) -> Array:
            if of == "rows":
                return -strength * mean
            # a row is the way down from `params` to a model
            return view.params + strength * (view.params - mean)

        if not isinstance(epsilon, str):
            return reversed_mean(epsilon)
        harm = build_harm(view)
        return reversed_mean(
            find_strongest(lambda e: harm(jnp.broadcast_to(reversed_mean(e), view.rows.shape)), evaluations)
        )

    if isinstance(epsilon, str):
        return stateless(make_row, ASKS_RULE, evaluations, reads_own=False)
    return stateless(make_row, reads_own=False)
