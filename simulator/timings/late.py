"""Late: Byzantine workers hold their rows back until these are old."""

from byzax.options import checked
from byzax.simulator.schedules.base import Board
from byzax.simulator.timings.base import CountOrZero, HeldRow, Reply, Timing


@checked
def late(*, age: CountOrZero = 10) -> Timing:
    """Byzantine workers send late: a row waits until it is `age` updates old, or nothing else can happen without it.

    Sends: after `age` updates, or where nothing else can happen
    Model: the one handed

    Args:
        age: Updates that a row waits; never longer than the schedule's `max_age`. With 0 it waits until nothing else
            can happen.

    Returns:
        The timing.

    Raises:
        OptionError: For an `age` below 0.

    References:
        None known to us; of honest rows that are old Lian, Huang, Li and Liu, NeurIPS 2015
    """

    held = Reply("held")

    def release(board: Board, row: HeldRow) -> bool:
        limit = age if row.oldest is None else min(age, row.oldest)
        return limit > 0 and row.age >= limit

    return Timing(reply=lambda board, worker, last: held, release=release)
