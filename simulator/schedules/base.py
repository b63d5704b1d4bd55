"""The type of a schedule, its input, and what the files of this folder share."""

from collections.abc import Callable, Sequence, Set
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from pydantic import Field

from byzax.options import OptionError, PartError
from byzax.simulator.timeline import Timeline

Array = Any

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Apply = Literal["table", "buffer", "each"]
DeadRows = Literal["leave", "stay"]
Staleness = Literal["constant", "polynomial", "exponential"]
WarmUp = Literal["all", "partial"]


class Board(NamedTuple):
    """The state of the workers as the server knows it; a schedule reads it and never changes it.

    Attributes:
        step: Number of updates so far, which is the newest version of the model.
        least: Fewest rows that the rule accepts.
        waiting: Workers whose row has arrived for the next update.
        known: Workers of which at least one row has gone into an update.
        clocks: Number of rows that each worker has delivered, `[n]`.
        slowest: Gives the smallest clock of the workers that are not suspected to be dead.
        absent: Gives the known workers whose row has left the table, or leaves it with the next update.
    """

    step: int
    least: int
    waiting: Set[int]
    known: Set[int]
    clocks: list[int]
    slowest: Callable[[], int]
    absent: Callable[[], Set[int]] = frozenset


class Situation(NamedTuple):
    """The run that a schedule orders in advance.

    Attributes:
        n: Number of workers.
        steps: Number of server updates.
        rng: Random generator of the run's seed.
        at: Gives the random generator of one update, by its number.
        sizes: Gives the number of samples that each worker holds, `[n]`.
    """

    n: int
    steps: int
    rng: np.random.Generator
    at: Callable[[int], np.random.Generator]
    sizes: Callable[[], np.ndarray]


class UpdateIsDue(Protocol):
    """The decision to make an update."""

    def __call__(self, board: Board, /) -> bool:
        """Returns whether the rows that wait make an update now."""
        ...


class WorkerIsFree(Protocol):
    """The decision to let an idle worker begin its next job."""

    def __call__(self, board: Board, worker: int, /) -> bool:
        """Returns whether the idle worker may begin its next job, from the newest model."""
        ...


class DescribeWait(Protocol):
    """The words for what the next update waits for."""

    def __call__(self, board: Board, /) -> str:
        """Returns what the next update waits for, to follow "waits for" in a message."""
        ...


class Weight(Protocol):
    """The weights of rows by their ages."""

    def __call__(self, ages: Array, /) -> Array:
        """Returns the weights of rows.

        Args:
            ages: Age of each row in updates, any shape.

        Returns:
            Factors of the rows, of the shape of `ages`.
        """
        ...


class WorkerOrder(Protocol):
    """The order in which workers are asked for a row."""

    def __call__(self, step: int, /) -> Sequence[int]:
        """Returns the workers in the order in which update number `step` asks them."""
        ...


class BuildOrder(Protocol):
    """The orders of a whole run."""

    def __call__(self, situation: Situation, /) -> WorkerOrder:
        """Returns the order of workers of each update of a run."""
        ...


class BuildPlan(Protocol):
    """The events of a whole run, fixed in advance."""

    def __call__(self, situation: Situation, /) -> Timeline:
        """Returns all events of a run."""
        ...


class Schedule(NamedTuple):
    """The decisions of a parameter server, the same in virtual time and in real time.

    A schedule whose events do not depend on what happens gives all of them in `plan`, and the other fields are not
    used.

    Attributes:
        due: Decides whether the rows that wait make an update now.
        free: Decides whether an idle worker may begin its next job, from the newest model.
        waits: Says what the next update waits for.
        oldest: Largest age of a row, in updates since its worker got the model; an older row is dropped when it
            arrives. None: every age is accepted.
        forgets: Whether the row of a worker that is known to be dead leaves the table, at once, or once it is older
            than `oldest`.
        newest: The row that counts of several rows of one worker waiting for one update: the last one (True) or the
            first one (False).
        sees: The rows that the rule gets: "rows", those of the update; "table", the last row of every worker;
            "buckets", the means of the rows in each of `buckets` buckets, where worker i belongs to bucket
            i mod `buckets`.
        buckets: Number of buckets, with "buckets".
        whole: Whether a bucket counts only where there is a row of each of its workers, with "buckets".
        weight: Gives the factors of the rows by their ages; None for 1.
        by_clock: Whether a waiting worker becomes free only when the smallest clock grows.
        together: Whether every update waits for one row of every worker, computed from the newest model.
        suspect_after_s: Seconds without a row after which a worker does not count for the smallest clock, until it
            delivers again; None waits for ever.
        order: Gives the order in which each update asks workers for a row, `asked` of them at a time; None lets every
            worker begin that is `free`.
        asked: Number of workers that an update asks at a time, with `order`.
        doubted: The f that the rule gets; None for the declared number of Byzantine workers.
        likely: Whether `doubted` is the largest number that is likely, in whose place goes one that is known.
        plan: Gives all events of a run; None where they follow from the fields above.
    """

    due: UpdateIsDue = lambda board: True
    free: WorkerIsFree = lambda board, worker: True
    waits: DescribeWait = lambda board: "a row"
    oldest: CountOrZero | None = None
    forgets: bool = False
    newest: bool = False
    sees: Literal["rows", "table", "buckets"] = "rows"
    buckets: CountOrZero = 0
    whole: bool = False
    weight: Weight | None = None
    by_clock: bool = False
    together: bool = False
    suspect_after_s: Positive | None = None
    order: BuildOrder | None = None
    asked: CountOrZero = 0
    doubted: CountOrZero | None = None
    likely: bool = False
    plan: BuildPlan | None = None


def check_workers(name: str, n: int, f: int) -> None:
    """Raises PartError unless n >= 1 and 0 <= f <= n.

    Args:
        name: Name of the schedule, for the message.
        n: Number of workers.
        f: Number of Byzantine workers.
    """
    if n < 1 or not 0 <= f <= n:
        raise PartError(f"{name} needs n >= 1 workers and 0 <= f <= n of them Byzantine, got n={n}, f={f}")


@lru_cache
def build_weight(staleness: Staleness, exponent: float) -> Weight | None:
    """Builds the weight of a row that is `age` updates old: 1, (1 + age)^-exponent, or exp(-exponent age).

    Args:
        staleness: "constant", "polynomial" or "exponential".
        exponent: The exponent, at least 0.

    Returns:
        The same function for the same arguments, so that it is compiled once; None for "constant".
    """
    if staleness == "constant":
        return None
    if staleness == "polynomial":
        return lambda ages: (1.0 + ages) ** -exponent
    return lambda ages: jnp.exp(-exponent * ages)


def build_asynchronous(
    n: int,
    apply: Apply,
    rows: int,
    warm_up: WarmUp,
    max_age: int | None,
    dead_rows: DeadRows,
    staleness: Staleness,
    exponent: float,
) -> Schedule:
    """Builds the part that `asynchronous` and `stale_synchronous` share: how rows reach the rule.

    Args:
        n: Number of workers.
        apply: See `asynchronous`, as for the other arguments.
        rows: Number of rows of an update, with "buffer".
        warm_up: Rows that the first update waits for, with "table".
        max_age: Largest age of a row in updates.
        dead_rows: Fate of the last row of a dead worker, with "table".
        staleness: Weight of a row by its age.
        exponent: Exponent of the weights.

    Returns:
        A schedule in which every worker is always free.

    Raises:
        OptionError: For `rows` above n with "buffer".
    """
    common = Schedule(oldest=max_age, weight=build_weight(staleness, exponent))
    if apply == "table":

        def needed(board: Board) -> int:
            return n if warm_up == "all" and not board.known else board.least

        def in_table(board: Board) -> int:
            return len((board.known | board.waiting) - board.absent())

        def waits(board: Board) -> str:
            if in_table(board) >= needed(board):
                return "a new row"
            if board.absent():
                return (
                    f"the rows of {needed(board)} workers that live, the fewest that the rule can go on with, and has "
                    f"{in_table(board)} (schedule.dead_rows stay keeps those of the dead)"
                )
            return f"a first row of {needed(board)} workers, and has those of {in_table(board)}"

        return common._replace(
            sees="table",
            newest=True,
            forgets=dead_rows == "leave",
            due=lambda board: bool(board.waiting) and in_table(board) >= needed(board),
            waits=waits,
        )
    if apply == "buffer" and rows > n:
        raise OptionError("rows", f"must be at most n = {n}, one row of each worker, got {rows}")
    count = rows if apply == "buffer" else 1
    return common._replace(
        due=lambda board: len(board.waiting) >= count,
        waits=lambda board: f"the rows of {count} different workers, and has {len(board.waiting)}",
    )
