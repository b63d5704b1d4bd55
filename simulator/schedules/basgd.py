"""Buffered asynchronous SGD: buckets of workers."""

from typing import Annotated

from pydantic import Field

from byzax.simulator.schedules.base import Board, Schedule, Staleness, at_least, weighing


def basgd(
    n: int,
    f: int,
    *,
    buckets: Annotated[int, Field(ge=1)] | None = None,
    max_age: Annotated[int, Field(ge=0)] | None = None,
    staleness: Staleness = "constant",
    exponent: Annotated[float, Field(ge=0)] = 0.5,
) -> Schedule:
    """No worker waits; the rule sees the means of `buckets` buckets, as soon as each holds a row.

    Waits: for a row in every bucket
    Ages: not bounded, unless by `max_age`
    Source: Yang and Li, ICML 2021, "BASGD: Buffered Asynchronous SGD for Byzantine Learning", algorithm 1

    Worker i's rows go to bucket i mod `buckets`. f liars reach at most f of them, so a rule for `buckets` rows of which
    f lie is safe with 2f + 1 of them. As everywhere an update has one row of each worker: the paper lets a fast
    worker's rows count several times in the mean of its bucket, here those after the first are dropped.

    Args:
        buckets: B; by default 2f + 1, as few as can be.
        max_age: see `asynchronous`, as for staleness and exponent.

    Raises:
        ValueError: buckets < 1 or > n, max_age < 0, exponent < 0, or for an unknown weight.
    """
    count = min(2 * f + 1, n) if buckets is None else buckets
    at_least("basgd", "buckets", count, 1, n)
    at_least("basgd", "max_age", max_age, 0)

    def filled(board: Board) -> int:
        return len({worker % count for worker in board.waiting})

    return Schedule(
        sees="buckets",
        buckets=count,
        oldest=max_age,
        weight=weighing("basgd", staleness, exponent),
        due=lambda board: len(board.waiting) >= count and filled(board) == count,
        waits=lambda board: f"a row in each of {count} buckets, and has one in {filled(board)}",
    )
