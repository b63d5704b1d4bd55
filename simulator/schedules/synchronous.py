"""The synchronous schedule."""

from typing import Literal

from byzax.simulator.schedules.base import Schedule, at_least


def synchronous(n: int, f: int, *, quorum: int | Literal["all", "n-f"] = "all") -> Schedule:
    """Every update takes rows computed from the newest model, of all workers or of those that are first.

    Waits: for all workers, or for the first `quorum` of them
    Ages: 0
    Source: Valiant, CACM 1990 (bulk-synchronous); Blanchard et al., NeurIPS 2017, section 2; Chen et al. 2016 (quorum)

    Rows that come after the quorum ("Revisiting Distributed Synchronous SGD" calls their workers backups) are dropped
    and counted, and their workers go on with the newest model; one whose message was lost computes again. Where too
    few answer the run ends and says so.

    Args:
        quorum: rows of an update: all, a number, or n-f, the most that can be waited for when f workers are silent.
            The rule then sees so many rows, f of which may lie.

    Raises:
        ValueError: for a quorum below 1 or above n.
    """
    count = {"all": n, "n-f": n - f}.get(quorum, quorum) if isinstance(quorum, str) else quorum
    if isinstance(count, str):
        raise ValueError(f"synchronous knows a number, all and n-f as quorum, got {quorum!r}")
    at_least("synchronous", "a quorum", count, 1, n)
    return Schedule(
        oldest=0,
        together=count == n,
        due=lambda board: len(board.waiting) >= count,
        free=lambda board, worker: worker not in board.waiting,
        waits=lambda board: f"the rows of {count} workers, and has {len(board.waiting)}",
    )
