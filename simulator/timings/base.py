"""The type of a timing, and what its decisions are made of."""

from typing import Annotated, Literal, NamedTuple, Protocol

from pydantic import Field

from byzax.simulator.schedules.base import Board

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class Reply(NamedTuple):
    """The reply of a Byzantine worker to a job that it takes up.

    Attributes:
        sent: "in_time": the row arrives when an honest worker's would, by the latency; "held": it waits, and is sent
            when `release` says so, or where nothing else can happen without it; "never": no row comes.
        older: Updates by which the model that the row is computed from is older than the one handed; never before the
            first model.
    """

    sent: Literal["in_time", "held", "never"] = "in_time"
    older: CountOrZero = 0


class HeldRow(NamedTuple):
    """A row that is held back, at a moment at which it could be sent.

    Attributes:
        worker: The Byzantine worker.
        age: Updates since its worker was handed the model.
        oldest: Largest age that the schedule accepts; None: every age.
        before_honest: Whether an honest row arrives next, which this one would come before; else an update was made
            just now.
    """

    worker: int
    age: int
    oldest: int | None
    before_honest: bool


class ReplyToJob(Protocol):
    """The decision about a job that a Byzantine worker may begin."""

    def __call__(self, board: Board, worker: int, last: int | None, /) -> Reply | None:
        """Decides how the worker replies to the newest model.

        Args:
            board: The state of the workers as the server knows it.
            worker: The worker.
            last: The update in which it took up its last job; None before the first one.

        Returns:
            The reply; None where the worker does not take up the job, and is asked again later.
        """
        ...


class ReleaseRow(Protocol):
    """The decision to send a row that is held back."""

    def __call__(self, board: Board, row: HeldRow, /) -> bool:
        """Returns whether the row is sent now.

        Args:
            board: The state of the workers as the server knows it.
            row: The row.
        """
        ...


class Timing(NamedTuple):
    """The times at which Byzantine workers send, as a few decisions: the same in virtual time and in real time.

    Decisions are pure: of equal arguments the same comes out. `Timing()` alone is that of honest workers.

    Attributes:
        reply: Decides about each job that a Byzantine worker may begin; None: all rows are sent in time.
        release: Decides whether a row that is held back is sent now. It is asked before each honest row and after
            each update; where nothing else can happen a row is sent unasked.
        always: Whether every job gets a reply in the end; False where `reply` gives None or "never".
        oldest: Largest `older` of any reply; a race keeps so many models.
    """

    reply: ReplyToJob | None = None
    release: ReleaseRow = lambda board, row: False
    always: bool = True
    oldest: CountOrZero = 0

    @property
    def in_time(self) -> bool:
        """True where Byzantine workers send when honest ones would."""
        return self.reply is None
