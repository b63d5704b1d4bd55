"""Fall of empires: inner-product manipulation."""

from typing import Literal

import jax.numpy as jnp

from byzax.attacks._search import check_evaluations, harm, strongest
from byzax.attacks.base import Array, Attack, View, check, honest_mean, stateless


def empire(n: int, f: int, *, epsilon: float | Literal["search"] = 1.1, evaluations: int = 20) -> Attack:
    """All Byzantine rows are the honest mean, turned round and scaled, so that the aggregate points uphill.

    The average of all rows turns round if and only if epsilon > (n - f) / f. A small epsilon hides among the honest
    rows and is aimed at rules that select; a large one is aimed at averages.

    Formula: -epsilon * mean of the honest rows
    Knows: all honest rows
    Source: Xie, Koyejo and Gupta 2019, "Fall of Empires"

    Args:
        epsilon: length of the Byzantine rows in lengths of the honest mean; "search" takes at every update the one that
            takes the rule in use farthest from the honest mean.
        evaluations: how often a search asks the rule in one update; not used by a given epsilon.

    Raises:
        ValueError: unless 0 <= f <= n, for a word that is not "search", fewer than 4 evaluations or more than 1000.
    """
    check("empire", n, f)
    if isinstance(epsilon, str) and epsilon != "search":
        raise ValueError(f'empire needs a number epsilon or "search", got {epsilon!r}')
    check_evaluations("empire", evaluations)

    def forged(key: Array, view: View) -> Array:
        mean = honest_mean(view)
        if not isinstance(epsilon, str):
            return -epsilon * mean
        harm_of = harm(view)
        return -mean * strongest(lambda e: harm_of(jnp.broadcast_to(-e * mean, view.rows.shape)), evaluations)

    return stateless(forged)._replace(questions=evaluations if epsilon == "search" else 0)
