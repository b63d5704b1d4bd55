"""Stale-synchronous parallel SGD (Ho et al. 2013): fast workers wait for the slowest beyond a bound."""

import inspect

from byzax.options import OptionError, checked
from byzax.simulator.schedules.base import (
    Apply,
    Board,
    Count,
    CountOrZero,
    DeadRows,
    NotNegative,
    Positive,
    Schedule,
    Staleness,
    WarmUp,
    build_asynchronous,
    check_workers,
)
from byzax.simulator.schedules.synchronous import synchronous


@checked
def stale_synchronous(
    n: int,
    f: int,
    *,
    bound: CountOrZero = 3,
    apply: Apply = "table",
    rows: Count = 10,
    warm_up: WarmUp = "all",
    max_age: CountOrZero | None = None,
    dead_rows: DeadRows = "leave",
    staleness: Staleness = "constant",
    exponent: NotNegative = 0.5,
    suspect_after_s: Positive | None = None,
) -> Schedule:
    """Lets a worker begin a job while it is at most `bound` rows ahead of the slowest; beyond that it waits.

    Waits: for the slowest worker, when it is more than `bound` rows behind
    Ages: not bounded, unless by `max_age`; `bound` is of rows that a worker has delivered, not of updates

    A worker's clock is the number of rows it has delivered; one at clock c begins its next job when the smallest clock
    is at least c - bound (Ho et al. 2013; Tang et al. 2020, section 3.2). The version it reads then holds every update
    of all workers up to clock c - bound, all of its own, and what others have delivered besides (with `apply: each`, or
    a table). How many updates old a row is when it is applied is another thing: about n (2 bound + 1) at most where
    every row is an update.

    With bound 0 all workers wait for all: that is `synchronous`, one update of n rows for each clock, and other options
    are refused then. With `average` and `apply: each` the parameters that a worker at clock c reads are w0 - eta times
    the sum of the rows of all workers up to clock c - bound, of its own up to c, and of those that others have
    delivered beyond.

    A worker that never delivers, because it died or is Byzantine, holds up all others after `bound` rows: without
    `suspect_after_s` the run then ends and says who is missing. With it, a worker that delivered nothing for so
    long does not count as slowest until it delivers again; a slow honest worker is then suspected too, and the clock
    gap to it is no longer bounded: take several times the slowest worker's usual time.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        bound: s, in rows of a worker.
        apply: See `asynchronous`.
        rows: See `asynchronous`.
        warm_up: See `asynchronous`.
        max_age: See `asynchronous`. None: every age is accepted.
        dead_rows: See `asynchronous`.
        staleness: See `asynchronous`.
        exponent: See `asynchronous`.
        suspect_after_s: Seconds without a row after which a worker does not count as slowest. None: never.

    Returns:
        The schedule.

    Raises:
        OptionError: For an option out of its range, or another option beside `bound` 0.
        PartError: For an impossible n and f.

    References:
        Ho et al., NeurIPS 2013, "More effective distributed ML via a stale synchronous parallel parameter server"
    """
    check_workers("stale_synchronous", n, f)
    shared = build_asynchronous(n, apply, rows, warm_up, max_age, dead_rows, staleness, exponent)
    if bound == 0:
        arguments = {
            "apply": apply, "rows": rows, "warm_up": warm_up, "max_age": max_age, "dead_rows": dead_rows,
            "staleness": staleness, "exponent": exponent, "suspect_after_s": suspect_after_s,
        }  # fmt: skip
        options = inspect.signature(stale_synchronous).parameters
        if idle := [key for key, value in arguments.items() if value != options[key].default]:
            raise OptionError(
                "bound",
                f"must be at least 1 with {' and '.join(idle)}, which have no meaning for bound 0, where all workers "
                "wait for all (synchronous), got 0",
            )
        return synchronous(n, f)

    def waits(board: Board) -> str:
        return (
            f"{shared.waits(board)}; nobody goes on that is more than {bound} rows ahead of the slowest, which has "
            f"delivered {board.slowest()}"
        )

    return shared._replace(
        free=lambda board, worker: board.clocks[worker] - board.slowest() <= bound,
        waits=waits,
        by_clock=True,
        suspect_after_s=suspect_after_s,
    )
