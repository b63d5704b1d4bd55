"""Messages in an inbox: vectors, rows of a message that holds several, and all of them as a matrix."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class RowOf(NamedTuple):
    """A row of a message that holds several.

    Attributes:
        rows: `[k, d]`, the message.
        port: The place of the row.
    """

    rows: Any
    port: int


class Inbox(Sequence[Any]):
    """The messages that an event reads, of which the first are the rows of matrices."""

    def __init__(self, matrices: Sequence[Any], others: Sequence[Any] = ()) -> None:
        """Takes messages.

        Args:
            matrices: `[k, d]` each, of JAX.
            others: The messages after their rows.
        """
        self.matrices, self.others = matrices, others

    def __len__(self) -> int:
        """The number of messages."""
        return sum(map(len, self.matrices)) + len(self.others)

    def __getitem__(self, place: Any) -> Any:
        """A message, or those of a slice; the rows of one matrix are an `Inbox` again."""
        begin = 0
        for rows in self.matrices:
            if isinstance(place, slice) and range(len(self))[place] == range(begin, begin + len(rows)):
                return Inbox((rows,))
            if not isinstance(place, slice) and begin <= range(len(self))[place] < begin + len(rows):
                return rows[range(len(self))[place] - begin]
            begin += len(rows)
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        return self.others[range(len(self))[place] - begin]


def stack_rows(messages: Sequence[Any]) -> Any:
    """Messages as the rows of a matrix.

    Args:
        messages: Vectors `[d]`, or rows of messages that hold several.

    Returns:
        `[k, d]`, of JAX; of NumPy where no message is of JAX.
    """
    if isinstance(messages, Inbox) and len(messages.matrices) == 1 and not messages.others:
        return messages.matrices[0]
    if all(isinstance(each, np.ndarray) for each in messages):
        return np.stack(messages)
    others = [each for each in messages if isinstance(each, RowOf)]
    if len({id(each.rows) for each in others}) != 1:
        return _stacked(*(_row(*each) if isinstance(each, RowOf) else each for each in messages))
    alone = [each for each in messages if not isinstance(each, RowOf)]
    places = iter(range(len(alone)))
    found = [len(alone) + each.port if isinstance(each, RowOf) else next(places) for each in messages]
    return _stacked_from(np.array(found, np.int32), others[0].rows, *alone)


# one call each, and no waiting for rows that are still being computed
_row = jax.jit(lambda rows, port: rows[port])
_stacked = jax.jit(lambda *rows: jnp.stack(rows))
_stacked_from = jax.jit(lambda places, rows, *alone: jnp.concatenate([*(each[None] for each in alone), rows])[places])
