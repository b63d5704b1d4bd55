"""What a schedule is: types and checks shared by every file of this folder."""

from collections.abc import Callable, Sequence, Set
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from byzax.simulator.timeline import Timeline

Array = Any


class Board(NamedTuple):
    """What the server knows of its workers; a schedule decides by it and never changes it.

    `step`: updates so far, which is the newest version. `least`: the fewest rows that the rule accepts. `waiting`: the
    workers whose row is there for the next update. `known`: those of which it ever had one for an update. `clocks`
    `[n]`: rows that each worker has delivered. `slowest()`: the smallest clock of the workers not under suspicion.
    `absent()`: the known workers whose row has left the table, or leaves it with the next update.
    """

    step: int
    least: int
    waiting: Set[int]
    known: Set[int]
    clocks: list[int]
    slowest: Callable[[], int]
    absent: Callable[[], Set[int]] = frozenset


class Situation(NamedTuple):
    """For what a plan is made: `n` workers, so many server updates, a random generator of the seed's own.

    `at(step)`: a generator for one update. `sizes()`: the number of samples that each worker holds, `[n]`.
    """

    n: int
    steps: int
    rng: np.random.Generator
    at: Callable[[int], np.random.Generator]
    sizes: Callable[[], np.ndarray]


class Schedule(NamedTuple):
    """The decisions of a parameter server, asked in virtual time and on the clock alike.

    `due(board)`: whether the rows that wait make an update now. `free(board, worker)`: whether an idle worker may begin
    its next job, from the newest model. `waits(board)`: what the next update waits for, in words.
    `oldest`: a row whose version is more updates old than this is dropped, None takes any age.
    `forgets`: whether the row of a worker that is known to be dead leaves the table, once it is older than `oldest`.
    `newest`: of several rows of one worker in wait for one update the last one counts, else the first.
    `sees`: whether the rule gets the rows of the update, the last row of every worker (`table`), or the means of the
    rows in `buckets` buckets, worker i in bucket i mod `buckets`.
    `weight(ages)` multiplies the rows, None for 1.
    `by_clock`: a worker that waits becomes free when the slowest clock goes on, and by nothing else.
    `together`: whether every update waits for one row of every worker from the newest model.
    `suspect_after_s`: a worker that delivered nothing for so long does not count as slowest until it does again.
    `order(situation)` gives for each update the order in which workers are asked for a row, `asked` of them at a time;
    None where any may begin that is `free`. `doubted`: the f that the rule is told, None for what is declared.

    A schedule that decides nothing has a `plan` in place of all this, which gives the order of events outright.
    """

    due: Callable[[Board], bool] = lambda board: True
    free: Callable[[Board, int], bool] = lambda board, worker: True
    waits: Callable[[Board], str] = lambda board: "a row"
    oldest: int | None = None
    forgets: bool = False
    newest: bool = False
    sees: Literal["rows", "table", "buckets"] = "rows"
    buckets: int = 0
    weight: Callable[[Array], Array] | None = None
    by_clock: bool = False
    together: bool = False
    suspect_after_s: float | None = None
    order: Callable[[Situation], Callable[[int], Sequence[int]]] | None = None
    asked: int = 0
    doubted: int | None = None
    plan: Callable[[Situation], Timeline] | None = None


Staleness = Literal["constant", "polynomial", "exponential"]
DeadRows = Literal["leave", "stay"]


@lru_cache
def weighing(name: str, staleness: Staleness, exponent: float) -> Callable[[Array], Array] | None:
    """The weight of a row that is `age` updates old: 1, (1 + age)^-exponent, or exp(-exponent age)."""
    if staleness not in ("constant", "polynomial", "exponential"):
        raise ValueError(f"{name} knows the staleness weights constant, polynomial and exponential, got {staleness!r}")
    if not exponent >= 0:
        raise ValueError(f"{name} needs an exponent >= 0, such as 0.5, got {exponent}")
    if staleness == "constant":
        return None
    if staleness == "polynomial":
        return lambda ages: (1.0 + ages) ** -exponent
    return lambda ages: jnp.exp(-exponent * ages)


def at_least(name: str, option: str, value: float | None, least: int, most: int | None = None) -> None:
    """Raises ValueError unless an option is None or within its limits."""
    if value is not None and not (value >= least and (most is None or value <= most)):
        limits = f">= {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} needs {option} {limits}, got {value}")


def asynchrony(
    name: str,
    n: int,
    apply: str,
    rows: int,
    warm_up: str,
    max_age: int | None,
    dead_rows: str,
    staleness: Staleness,
    exponent: float,
) -> Schedule:
    """How rows meet a rule where nobody waits for all: what `asynchronous` and `stale_synchronous` share."""
    at_least(name, "max_age", max_age, 0)
    common = Schedule(oldest=max_age, weight=weighing(name, staleness, exponent))
    if apply == "table":
        if warm_up not in ("all", "partial"):
            raise ValueError(f"{name} knows the warm_up all and partial, got {warm_up!r}")
        if dead_rows not in ("leave", "stay"):
            raise ValueError(f"{name} knows the dead_rows leave and stay, got {dead_rows!r}")

        def needed(board: Board) -> int:
            return n if warm_up == "all" and not board.known else board.least

        def there(board: Board) -> int:
            return len((board.known | board.waiting) - board.absent())

        def waits(board: Board) -> str:
            if there(board) >= needed(board):
                return "a new row"
            if board.absent():
                return (
                    f"the rows of {needed(board)} workers that live, the fewest that the rule can go on with, and has "
                    f"{there(board)} (schedule.dead_rows stay keeps those of the dead)"
                )
            return f"a first row of {needed(board)} workers, and has those of {there(board)}"

        return common._replace(
            sees="table",
            newest=True,
            forgets=dead_rows == "leave",
            due=lambda board: bool(board.waiting) and there(board) >= needed(board),
            waits=waits,
        )
    if apply == "buffer":
        at_least(name, "rows", rows, 1, n)
    elif apply != "each":
        raise ValueError(f"{name} knows apply table, buffer and each, got {apply!r}")
    count = rows if apply == "buffer" else 1
    return common._replace(
        due=lambda board: len(board.waiting) >= count,
        waits=lambda board: f"the rows of {count} different workers, and has {len(board.waiting)}",
    )
