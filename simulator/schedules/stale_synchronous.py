"""The stale-synchronous schedule."""

import inspect
from typing import Annotated, Literal

from pydantic import Field

from byzax.simulator.schedules.base import Board, DeadRows, Schedule, Staleness, asynchrony, at_least
from byzax.simulator.schedules.synchronous import synchronous


def stale_synchronous(
    n: int,
    f: int,
    *,
    bound: Annotated[int, Field(ge=0)] = 3,
    apply: Literal["table", "buffer", "each"] = "table",
    rows: Annotated[int, Field(ge=1)] = 10,
    warm_up: Literal["all", "partial"] = "all",
    max_age: Annotated[int, Field(ge=0)] | None = None,
    dead_rows: DeadRows = "leave",
    staleness: Staleness = "constant",
    exponent: Annotated[float, Field(ge=0)] = 0.5,
    suspect_after_s: Annotated[float, Field(gt=0)] | None = None,
) -> Schedule:
    """A worker begins a job when it is at most `bound` rows ahead of the slowest, and waits while it is more.

    Waits: for the slowest worker, when it is more than `bound` rows behind
    Ages: of clocks at most `bound`; of versions not bounded, unless by `max_age`
    Source: Ho et al., NeurIPS 2013, "More effective distributed ML via a stale synchronous parallel parameter server"

    A worker's clock is the number of rows it has delivered; one at clock c begins its next job when the smallest clock
    is at least c - bound (Ho et al. 2013; Tang et al. 2020, section 3.2). The version it reads then holds every update
    of all workers up to clock c - bound, all of its own, and what others have delivered besides (with `apply: each`, or
    a table). How many updates old a row is when it is applied is another thing: about n (2 bound + 1) at most where
    every row is an update.

    With bound 0 all workers wait for all: that is `synchronous`, one update of n rows for each clock, and other options
    are refused then. With `average` and `apply: each` the parameters that a worker at clock c reads are w0 - eta times
    the sum of the rows of all workers up to clock c - bound, of its own up to c, and of those that others have
    delivered beyond.

    A worker that never delivers, because it died or lies, holds up all others after `bound` rows: without
    `suspect_after_s` (wait) the run then ends and says who is missing. With it, a worker that delivered nothing for so
    long does not count as slowest until it delivers again; a slow honest worker is then suspected too, and the clock
    gap to it is no longer bounded: take several times the slowest worker's usual time.

    Args:
        bound: s, in rows of a worker.
        apply: see `asynchronous`, as for rows, warm_up, max_age, dead_rows, staleness and exponent.
        suspect_after_s: seconds; without it the slowest is waited for.

    Raises:
        ValueError: bound < 0, another option with bound 0, suspect_after_s <= 0, and as `asynchronous`.
    """
    at_least("stale_synchronous", "a bound", bound, 0)
    if suspect_after_s is not None and not suspect_after_s > 0:
        raise ValueError(f"stale_synchronous needs suspect_after_s > 0, got {suspect_after_s}")
    stale = asynchrony("stale_synchronous", n, apply, rows, warm_up, max_age, dead_rows, staleness, exponent)
    if bound == 0:
        given = {
            "apply": apply, "rows": rows, "warm_up": warm_up, "max_age": max_age, "dead_rows": dead_rows,
            "staleness": staleness, "exponent": exponent, "suspect_after_s": suspect_after_s,
        }  # fmt: skip
        options = inspect.signature(stale_synchronous).parameters
        if idle := [key for key, value in given.items() if value != options[key].default]:
            raise ValueError(
                f"stale_synchronous with bound 0 is synchronous, where all wait for all and {' and '.join(idle)} would "
                "say nothing: take a bound >= 1, or leave that out"
            )
        return synchronous(n, f)

    def waits(board: Board) -> str:
        return (
            f"{stale.waits(board)}; nobody goes on that is more than {bound} rows ahead of the slowest, which has "
            f"delivered {board.slowest()}"
        )

    return stale._replace(
        free=lambda board, worker: board.clocks[worker] - board.slowest() <= bound,
        waits=waits,
        by_clock=True,
        suspect_after_s=suspect_after_s,
    )
