"""Messages on their way between processes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Parcel(NamedTuple):
    """Messages on their way from one host to others.

    Attributes:
        places: Number and port of each row, as inboxes name them; port -1 for a message that is one row.
        rows: `[m, d]`: together, since each array of its own takes some microseconds, or m rows; None for none.
        others: Any other messages, by their numbers.
    """

    places: tuple[tuple[int, int], ...] = ()
    rows: np.ndarray | Sequence[np.ndarray] | None = None
    others: Mapping[int, Any] = {}


class Blank(NamedTuple):
    """A row that only holds a place: its shape and type."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Packing:
    """Puts messages into a parcel."""

    def __init__(self) -> None:
        """Begins with none."""
        self._places: list[tuple[int, int]] = []
        self._rows: list[np.ndarray] = []
        self._others: dict[int, Any] = {}

    def add(self, number: int, ports: Sequence[int], message: Any) -> None:
        """Puts a message in.

        Args:
            number: Its number.
            ports: The rows of it that are read; none for the whole message.
            message: The message, in NumPy.
        """
        one_row = isinstance(message, np.ndarray) and message.ndim == 1
        rows = [message[port] for port in ports] if ports else [message] * one_row
        if rows and all((row.shape, row.dtype) == (rows[0].shape, rows[0].dtype) for row in self._rows[:1]):
            self._places += [(number, port) for port in ports or (-1,)]
            self._rows += rows
        else:
            self._others[number] = message

    def add_blank(self, number: int, message: Any) -> None:
        """Puts in a message, one row, of which nobody reads the numbers.

        Args:
            number: Its number.
            message: A row like it.
        """
        self._others[number] = Blank(message.shape, np.dtype(message.dtype))

    def parcel(self) -> Parcel:
        """The parcel."""
        return Parcel(tuple(self._places), np.stack(self._rows) if self._rows else None, self._others)

    def loose(self) -> Parcel:
        """The parcel, for whoever puts the rows into memory of its own."""
        return Parcel(tuple(self._places), self._rows or None, self._others)


def unpack(parcels: Sequence[Parcel]) -> dict[tuple[int, int], Any]:
    """The messages of parcels, by number and port."""
    found: dict[tuple[int, int], Any] = {}
    for places, rows, others in parcels:
        if rows is not None:
            found.update(zip(places, rows, strict=True))
        found.update(((number, -1), _unblanked(message)) for number, message in others.items())
    return found


def _unblanked(message: Any) -> Any:
    return np.broadcast_to(np.zeros((), message.dtype), message.shape) if isinstance(message, Blank) else message
