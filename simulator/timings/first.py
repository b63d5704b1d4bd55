"""Rushing: Byzantine workers send before each honest row."""

from byzax.options import checked
from byzax.simulator.timings.base import Reply, Timing


@checked
def first() -> Timing:
    """Byzantine workers that may send do so before each row of an honest worker, whatever the latency.

    Sends: before each honest row
    Model: the one handed

    Returns:
        The timing.

    References:
        Damaskinos, El Mhamdi, Guerraoui, Patra and Taziki, ICML 2018, "Asynchronous Byzantine Machine Learning"
    """
    held = Reply("held")
    return Timing(reply=lambda board, worker, last: held, release=lambda board, row: row.before_honest)
