"""Chosen updates: Byzantine workers answer now and then."""

from byzax.options import checked
from byzax.simulator.schedules.base import Board
from byzax.simulator.timings.base import Count, CountOrZero, Reply, Timing


@checked
def chosen(*, every: Count = 10, start: CountOrZero = 0) -> Timing:
    """Byzantine workers answer only in the updates start, start + every, ...

    Sends: in time, once in each of these updates
    Model: the one handed

    Args:
        every: Updates from one answer to the next.
        start: The first update with an answer.

    Returns:
        The timing.

    Raises:
        OptionError: For an option out of its range.

    References:
        None known to us; workers that come and go are partial participation, McMahan et al., AISTATS 2017
    """

    def reply(board: Board, worker: int, last: int | None) -> Reply | None:
        now = board.step >= start and (board.step - start) % every == 0
        return Reply() if now and last != board.step else None

    return Timing(reply=reply, always=False)
