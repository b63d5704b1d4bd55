"""BASGD (Yang and Li 2021): buffered asynchronous SGD with buckets of workers."""

from byzax.options import OptionError, checked
from byzax.simulator.schedules.base import (
    Board,
    Count,
    CountOrZero,
    NotNegative,
    Schedule,
    Staleness,
    build_weight,
    check_workers,
)


@checked
def basgd(
    n: int,
    f: int,
    *,
    buckets: Count | None = None,
    max_age: CountOrZero | None = None,
    staleness: Staleness = "constant",
    exponent: NotNegative = 0.5,
) -> Schedule:
    """Gives the rule the means of `buckets` buckets, as soon as each holds a row; no worker waits.

    Waits: for a row in every bucket
    Ages: not bounded, unless by `max_age`

    Worker i's rows go to bucket i mod `buckets`. f Byzantine workers reach at most f of them, so a rule for `buckets`
    rows of which f are Byzantine is safe with 2f + 1 of them. As everywhere an update has one row of each worker: the
    paper lets a fast worker's rows count several times in the mean of its bucket, here those after the first are
    dropped.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        buckets: B, at most n. None: 2f + 1, as few as can be.
        max_age: See `asynchronous`. None: every age is accepted.
        staleness: See `asynchronous`.
        exponent: See `asynchronous`.

    Returns:
        The schedule.

    Raises:
        OptionError: For an option out of its range.
        PartError: For an impossible n and f.

    References:
        Yang and Li, ICML 2021, "BASGD: Buffered Asynchronous SGD for Byzantine Learning", algorithm 1
    """
    check_workers("basgd", n, f)
    count = min(2 * f + 1, n) if buckets is None else buckets
    if count > n:
        raise OptionError("buckets", f"must be at most n = {n}, got {count}")

    def filled(board: Board) -> int:
        return len({worker % count for worker in board.waiting})

    return Schedule(
        sees="buckets",
        buckets=count,
        oldest=max_age,
        weight=build_weight(staleness, exponent),
        due=lambda board: len(board.waiting) >= count and filled(board) == count,
        waits=lambda board: f"a row in each of {count} buckets, and has one in {filled(board)}",
    )
