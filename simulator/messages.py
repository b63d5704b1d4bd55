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
        forged: The messages of which it holds the rows, forged where they are of Byzantine nodes and else as they are;
            none where that is not known.
    """

    rows: Any
    port: int
    forged: Sequence[Any] = ()


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
        return _stacked(*(_row(*each[:2]) if isinstance(each, RowOf) else each for each in messages))
    known = others[0].forged[: len(messages)]
    if len(known) == len(messages) == len(others[0].rows) and all(
        each.port == place if isinstance(each, RowOf) else each is known[place] for place, each in enumerate(messages)
    ):
        return others[0].rows
    ports = np.array([each.port if isinstance(each, RowOf) else -1 for each in messages], np.int32)
    if len(others) == len(messages):
        return _rows(others[0].rows, ports)
    filler = next(each for each in messages if not isinstance(each, RowOf))
    return _with_rows(ports, others[0].rows, *(filler if isinstance(each, RowOf) else each for each in messages))


# one call each, and no waiting for rows that are still being computed
_row = _rows = jax.jit(lambda rows, ports: rows[ports])
_stacked = jax.jit(lambda *rows: jnp.stack(rows))
# a pass that chooses reads less than one that puts all of them behind each other
_with_rows = jax.jit(lambda ports, rows, *each: jnp.where((ports >= 0)[:, None], rows[ports], jnp.stack(each)))
