"""Uphill with the strength of all honest workers."""

from byzax.attacks.base import Attack, check, honest_mean, stateless


def reverse_gradient(n: int, f: int, *, scale: float = 2.0) -> Attack:
    """All Byzantine rows are the sum of the honest rows, turned round and scaled.

    With scale > 1 / f the average of all rows points uphill, however many workers are honest.

    Formula: -scale * sum of the honest rows
    Knows: all honest rows
    Source: Blanchard et al. 2017, experiments ("omniscient": opposite to the gradient, and large)

    Args:
        scale: length of the Byzantine rows in lengths of the honest sum.

    Raises:
        ValueError: unless 0 <= f <= n.
    """
    check("reverse_gradient", n, f)
    return stateless(lambda key, view: -scale * (~view.byzantine).sum() * honest_mean(view))
