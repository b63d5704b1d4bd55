"""Omission: Byzantine workers take the model and send nothing."""

from byzax.options import checked
from byzax.simulator.timings.base import Reply, Timing


@checked
def silent() -> Timing:
    """Byzantine workers take the model and send nothing.

    Sends: never
    Model: the one handed

    A schedule that waits for all of them comes to an end; take a quorum, or an asynchronous one.

    Returns:
        The timing.

    References:
        Lamport, Shostak and Pease 1982 (a traitor may send no message)
    """
    return Timing(reply=lambda board, worker, last: Reply("never"), always=False)
