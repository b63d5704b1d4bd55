"""The MATLAB format of level 5 (-v6 and -v7): its arrays of numbers.

SciPy's reader crashes the process on some damaged files; here every size is checked before it is used.
"""

import math
import struct
import zlib
from typing import Any

import numpy as np

HEADER = 128
MATRIX, COMPRESSED = 14, 15
# NumPy types: of stored numbers, by the type of their element, and of the array that is read, by its class
ELEMENT_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
ARRAY_TYPES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
INT32, UINT32 = 5, 6


def read_arrays(content: bytes) -> dict[str, np.ndarray]:
    """Reads the arrays of real numbers in a file; anything else in it (text, structures) is left out.

    Args:
        content: Bytes of the file.

    Returns:
        The arrays, by name.

    Raises:
        ValueError: For bytes that are not such a file; the message says what is wrong.
        zlib.error: For packed elements that are damaged.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER])
    if order is None or content[:6] != b"MATLAB":
        raise ValueError("it does not begin as a MATLAB file of level 5 (-v6, -v7)")
    arrays, place = {}, HEADER
    while place < len(content):
        kind, body, place = _element(content, place, order)
        if kind == COMPRESSED:
            kind, body, _ = _element(zlib.decompress(body), 0, order)
        if kind == MATRIX and (named := _matrix(body, order)):
            arrays[named[0]] = named[1]
    return arrays


def _element(content: Any, place: int, order: str) -> tuple[int, Any, int]:
    """Reads the element at a place: its type, its bytes and the place after it."""
    if place + 8 > len(content):
        raise ValueError("it is truncated")
    kind, size = struct.unpack_from(f"{order}II", content, place)
    begin = place + 8
    if kind >> 16:
        # up to four bytes in the place of the size
        kind, size, begin = kind & 0xFFFF, kind >> 16, place + 4
        end, after = begin + size, place + 8
        if size > 4:
            raise ValueError("a small element holds more than four bytes")
    else:
        end = begin + size
        after = end if kind == COMPRESSED else end + -size % 8
    if end > len(content):
        raise ValueError("it is truncated")
    return kind, memoryview(content)[begin:end], after


def _matrix(body: Any, order: str) -> tuple[str, np.ndarray] | None:
    """Reads an array: its name and its numbers, None where it holds anything but real numbers."""
    kind, flags, place = _element(body, 0, order)
    if kind != UINT32 or len(flags) != 8:
        raise ValueError("an array begins without its class")
    (flag,) = struct.unpack_from(f"{order}I", flags)
    of_numbers = ARRAY_TYPES.get(flag & 0xFF)
    # complex numbers have a second part
    if of_numbers is None or flag & 0x800:
        return None
    kind, sizes, place = _element(body, place, order)
    if kind != INT32 or not len(sizes) or len(sizes) % 4:
        raise ValueError("an array has no sizes")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    _, name, place = _element(body, place, order)
    kind, numbers, _ = _element(body, place, order)
    stored = np.dtype(order + ELEMENT_TYPES[kind]) if kind in ELEMENT_TYPES else None
    if stored is None or min(shape) < 0 or math.prod(shape) * stored.itemsize != len(numbers):
        raise ValueError(f"an array of {'x'.join(map(str, shape))} holds {len(numbers)} bytes")
    held = np.frombuffer(numbers, stored).reshape(shape, order="F")
    return bytes(name).decode("latin-1"), held.astype(of_numbers, copy=False)
