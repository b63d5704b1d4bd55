"""Workers that never answer."""

from byzax.attacks.base import Attack, check


def silent(n: int, f: int) -> Attack:
    """Byzantine workers take the model and send nothing: the same as `none` with the timing `silent`.

    A schedule that waits for all of them comes to an end; take a quorum, or an asynchronous one.

    Formula: no row
    Knows: nothing
    Source: Lamport, Shostak and Pease 1982 (a traitor may send no message)

    Raises:
        ValueError: unless 0 <= f <= n.
    """
    check("silent", n, f)
    return Attack()
