"""Synchronous SGD: every update waits for all workers, or for a quorum of them."""

from typing import Literal

from byzax.options import OptionError, checked
from byzax.simulator.schedules.base import Count, Schedule, check_workers


@checked
def synchronous(n: int, f: int, *, quorum: Count | Literal["all", "n-f"] = "all") -> Schedule:
    """Takes in every update rows computed from the newest model, of all workers or of the first to answer.

    Waits: for all workers, or for the first `quorum` of them
    Ages: 0

    Rows that come after the quorum ("Revisiting Distributed Synchronous SGD" calls their workers backups) are dropped
    and counted, and their workers go on with the newest model; one whose message was lost computes again. Where too
    few answer the run ends and says so.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        quorum: Number of rows of an update: "all", a number up to n, or "n-f", the most that can be waited for when f
            workers are silent. The rule then gets so many rows, of which f may be Byzantine.

    Returns:
        The schedule.

    Raises:
        OptionError: For a quorum below 1 or above n.
        PartError: For an impossible n and f.

    References:
        Valiant, CACM 1990 (bulk-synchronous); Blanchard et al., NeurIPS 2017, section 2; Chen et al. 2016 (quorum)
    """
    check_workers("synchronous", n, f)
    count = {"all": n, "n-f": n - f}[quorum] if isinstance(quorum, str) else quorum
    if not 1 <= count <= n:
        raise OptionError("quorum", f"must be from 1 to n = {n} rows, got {count}")
    return Schedule(
        oldest=0,
        together=count == n,
        due=lambda board: len(board.waiting) >= count,
        free=lambda board, worker: worker not in board.waiting,
        waits=lambda board: f"the rows of {count} workers, and has {len(board.waiting)}",
    )
