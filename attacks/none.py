"""No attack."""

from byzax.attacks.base import Attack, check


def none(n: int, f: int) -> Attack:
    """Byzantine workers that follow the protocol: what every other attack is compared with.

    Formula: the worker's own row
    Knows: own row
    Source: the run without an attack in any of the papers

    Raises:
        ValueError: unless 0 <= f <= n.
    """
    check("none", n, f)
    return Attack()
