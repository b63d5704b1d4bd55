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
    """The messages that an event reads, of which the first are the rows of a matrix."""

    def __init__(self, rows: Any, others: Sequence[Any] = ()) -> None:
        """Takes messages.

        Args:
            rows: `[k, d]`, of JAX.
            others: The messages after these.
        """
        self.rows, self.others = rows, others

    def __len__(self) -> int:
        """The number of messages."""
        return len(self.rows) + len(self.others)

    def __getitem__(self, place: Any) -> Any:
        """A message, or those of a slice; the rows alone are an `Inbox` again."""
        count = len(self.rows)
        if not isinstance(place, slice):
            place = range(len(self))[place]
            return self.rows[place] if place < count else self.others[place - count]
        places = range(len(self))[place]
        return Inbox(self.rows) if places == range(count) else [self[each] for each in places]


def stack_rows(messages: Sequence[Any]) -> Any:
    """Messages as the rows of a matrix.

    Args:
        messages: Vectors `[d]`, or rows of one message that holds several.

    Returns:
        `[k, d]`, of JAX; of NumPy where no message is of JAX.
    """
    if isinstance(messages, Inbox) and not messages.others:
        return messages.rows
    if all(isinstance(each, np.ndarray) for each in messages):
        return np.stack(messages)
    others = [each for each in messages if isinstance(each, RowOf)]
    if not others:
        return _stacked(*messages)
    alone = [each for each in messages if not isinstance(each, RowOf)]
    places = iter(range(len(alone)))
    found = [len(alone) + each.port if isinstance(each, RowOf) else next(places) for each in messages]
    return _stacked_from(np.array(found, np.int32), others[0].rows, *alone)


# one call each, and no waiting for rows that are still being computed
_stacked = jax.jit(lambda *rows: jnp.stack(rows))
_stacked_from = jax.jit(lambda places, rows, *alone: jnp.concatenate([*(each[None] for each in alone), rows])[places])
