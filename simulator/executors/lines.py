"""Lines between two processes of one machine: a socket tells of messages, whose arrays lie in memory that both have."""

import contextlib
import mmap
import os
import pickle
import socket
import struct
import tempfile
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

# Kind and place of a frame, two numbers, and the length of its text.
HEAD = struct.Struct("<iiqqi")
# Arrays begin so many bytes behind a multiple of 64: JAX takes memory that begins at one as it is, although it is
# written again, and copies any other.
BESIDE, UNIT = 8, 64


class LineLost(Exception):
    """The process at the other end is gone, or has closed the line."""


class Frame(NamedTuple):
    """A saying over a line.

    Attributes:
        kind: Its kind.
        place: The place that it is about.
        numbers: Two numbers.
        text: Bytes.
    """

    kind: int
    place: int = 0
    numbers: tuple[int, int] = (0, 0)
    text: bytes = b""


class Line:
    """One end of a line. One thread may use it at a time."""

    def __init__(self, end: socket.socket) -> None:
        """Takes a connected socket."""
        self._end = end
        # files that came with frames, not yet asked for
        self._files: list[int] = []

    @classmethod
    def of_file(cls, file: int) -> "Line":
        """The end of a line that was handed on as a file."""
        return cls(socket.socket(fileno=file))

    def fileno(self) -> int:
        """The number of the socket, for `select`."""
        return self._end.fileno()

    def send(self, frame: Frame, file: int | None = None) -> None:
        """Says something, and hands on a file where there is one.

        Raises:
            LineLost: Nobody is there.
        """
        data = HEAD.pack(frame.kind, frame.place, *frame.numbers, len(frame.text)) + frame.text
        try:
            sent = 0 if file is None else socket.send_fds(self._end, [data], [file])
            self._end.sendall(data[sent:])
        except OSError as error:
            raise LineLost(str(error)) from None

    def receive(self) -> Frame:
        """Waits for what is said next.

        Raises:
            LineLost: Nobody is there.
        """
        kind, place, one, other, length = HEAD.unpack(self._read(HEAD.size))
        return Frame(kind, place, (one, other), self._read(length))

    def take_file(self) -> int:
        """The file that came with the last frame."""
        return self._files.pop(0)

    def close(self) -> None:
        """Ends the line, also for a thread that waits for it."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()
        for file in self._files:
            os.close(file)
        self._files.clear()

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                part, files, _, _ = socket.recv_fds(self._end, count - len(data), 1)
            except OSError as error:
                raise LineLost(str(error)) from None
            if not part:
                raise LineLost("closed")
            self._files += files
            data += part
        return data


class Outbox:
    """Memory for the messages of one place, of which the two last ones are kept."""

    def __init__(self, frame: Frame, readers: Sequence[Line]) -> None:
        """Begins with no memory.

        Args:
            frame: The frame that announces a message, but for its text.
            readers: The lines to all that read.
        """
        self._frame, self._readers = frame, readers
        self._memory: mmap.mmap | None = None
        self._size = 0
        self.sent = 0

    def put(self, message: Any) -> None:
        """Sends a message to all readers, which must have taken all but the last one of those before.

        Raises:
            LineLost: A reader is gone.
        """
        arrays: list[pickle.PickleBuffer] = []
        text = pickle.dumps(message, protocol=5, buffer_callback=arrays.append)
        parts, places, end = [each.raw() for each in arrays], [], 0
        for part in parts:
            places.append(end + BESIDE)
            end = -(-(end + BESIDE + part.nbytes) // UNIT) * UNIT
        file = None
        if self._memory is None or end > self._size:
            self._size = max(end, UNIT)
            file = _new_file(2 * self._size)
            # readers that still have the memory before keep it alive
            self._memory = mmap.mmap(file, 2 * self._size)
        begin = self.sent % 2 * self._size
        for part, place in zip(parts, places, strict=True):
            self._memory[begin + place : begin + place + part.nbytes] = part
        where = struct.pack(f"<{2 * len(parts) + 1}q", len(parts), *places, *(part.nbytes for part in parts))
        size = 2 * self._size if file is not None else 0
        frame = self._frame._replace(numbers=(begin, size), text=where + text)
        try:
            for reader in self._readers:
                reader.send(frame, file)
        finally:
            if file is not None:
                os.close(file)
        self.sent += 1


class Letterbox:
    """The messages of one place that came and were not taken yet."""

    def __init__(self) -> None:
        """Begins with none."""
        self._memory: memoryview | None = None
        self._come: deque[tuple[memoryview, Frame]] = deque()

    def __bool__(self) -> bool:
        """Tells whether there is a message."""
        return bool(self._come)

    def announce(self, line: Line, frame: Frame) -> None:
        """Takes note of a message.

        Args:
            line: The line that it was announced over.
            frame: The frame that announced it.
        """
        if size := frame.numbers[1]:
            file = line.take_file()
            self._memory = memoryview(mmap.mmap(file, size, access=mmap.ACCESS_READ))
            os.close(file)
        assert self._memory is not None
        self._come.append((self._memory, frame))

    def take(self) -> Any:
        """The oldest message, whose arrays are views of memory that is written again once its sender knows of it."""
        memory, (_, _, (begin, _), text) = self._come.popleft()
        (count,) = struct.unpack_from("<q", text)
        where = struct.unpack_from(f"<{2 * count}q", text, 8)
        places = zip(where[:count], where[count:], strict=True)
        arrays = [memory[begin + place : begin + place + length] for place, length in places]
        return pickle.loads(memoryview(text)[8 + 16 * count :], buffers=arrays)


def _new_file(size: int) -> int:
    """A file in memory, which ends with the last process that has it."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("byzax")
    else:
        with tempfile.TemporaryFile() as made:
            file = os.dup(made.fileno())
    os.ftruncate(file, size)
    return file
