"""No attack: Byzantine workers that follow the protocol."""

from byzax.attacks.base import Attack, check
from byzax.options import checked


@checked
def none(n: int, f: int) -> Attack:
    """Byzantine workers that follow the protocol: the baseline of every other attack.

    Formula: the worker's own row
    Knows: own row

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.

    Returns:
        The attack, which does nothing.

    Raises:
        PartError: Unless 0 <= f <= n.

    References:
        The run without an attack in any of the papers
    """
    check("none", n, f)
    return Attack()
