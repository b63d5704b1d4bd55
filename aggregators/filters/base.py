"""The type of a filter, which judges each row before the rule: it passes it on, changed or not, or refuses it."""

from typing import NamedTuple, Protocol

from byzax.aggregators.base import Array, Context, Need, State


class Sent(NamedTuple):
    """The origin of a row.

    Attributes:
        worker: Index of the worker `[]`.
        age: Number of updates `[]` since the version of the model that the worker was given.
    """

    worker: Array
    age: Array


class FilterInit(Protocol):
    """The state of a filter before the first row.

    Args:
        params: `[d]`, the model at the start.

    Returns:
        A pytree.
    """

    def __call__(self, params: Array, /) -> State: ...


class JudgeRow(Protocol):
    """Judges one row. A refused row changes neither the model nor the states of rule and optimizer.

    Args:
        row: `[d]`.
        sent: Its origin.
        context: That of a rule: a key, the model, and a gradient and a loss on the server's own data where it has any.
        state: That of `init`, or of the last row.

    Returns:
        The row `[d]` as the rule shall see it, whether it is accepted (a truth value `[]`), and the new state.
    """

    def __call__(self, row: Array, sent: Sent, context: Context, state: State, /) -> tuple[Array, Array, State]: ...


class Asks(Protocol):
    """Tells whether the next row is judged with a new gradient on the server's own data.

    Args:
        state: The state of the filter.

    Returns:
        A truth value `[]`.
    """

    def __call__(self, state: State, /) -> Array: ...


class Filter(NamedTuple):
    """A judge of the rows of `n` workers of which up to `f` may be Byzantine, one row at a time, as pure functions.

    Attributes:
        init: The state before the first row, from the model.
        judge: Judges one row.
        asks: Whether the next row is judged with a new gradient; None where a filter that needs gradients takes one
            for every row.
        needs: The functions of the `Context` that `judge` calls, of "gradient", "loss" and "after".
    """

    init: FilterInit
    judge: JudgeRow
    asks: Asks | None = None
    needs: frozenset[Need] = frozenset()
