"""Fall of empires: inner-product manipulation."""

from attacks.base import Attack, check, honest_mean, stateless


def empire(n: int, f: int, *, epsilon: float = 1.1) -> Attack:
    """All Byzantine rows are the honest mean, turned round and scaled, so that the aggregate points uphill.

    The average of all rows turns round if and only if epsilon > (n - f) / f. A small epsilon hides among the honest
    rows and is aimed at rules that select; a large one is aimed at averages.

    Formula: -epsilon * mean of the honest rows
    Knows: all honest rows
    Source: Xie, Koyejo and Gupta 2019, "Fall of Empires"

    Args:
        epsilon: length of the Byzantine rows in lengths of the honest mean.

    Raises:
        ValueError: unless 0 <= f <= n.
    """
    check("empire", n, f)
    return stateless(lambda key, view: -epsilon * honest_mean(view))
