"""Omission: Byzantine workers that never answer."""

from byzax.attacks.base import Attack, check
from byzax.options import checked


@checked
def silent(n: int, f: int) -> Attack:
    """Byzantine workers take the model and send nothing: the same as `none` with the timing `silent`.

    A schedule that waits for all of them comes to an end; take a quorum, or an asynchronous one.

    Formula: no row
    Knows: nothing

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.

    Returns:
        The attack, which does nothing; a scenario with it has the timing silent.

    Raises:
        PartError: Unless 0 <= f <= n.

    References:
        Lamport, Shostak and Pease 1982 (a traitor may send no message)
    """
    check("silent", n, f)
    return Attack()
