"""Messages of the wire as real bytes, and back to vectors, in plain Python: how many bits they take, and what they say.

Each encoding is read off the definitions of the papers. Nothing here is shared with byzax but the names of the fields
of a message. Draws that both ends make are given as a function.
"""

import itertools
import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Reader:
    """The bits of a message, read from the front.

    Args:
        data: The bytes.
    """

    def __init__(self, data: bytes):
        self.bits, self.at = "".join(f"{byte:08b}" for byte in data), 0

    def take(self, count: int) -> str:
        """The next bits."""
        self.at += count
        assert self.at <= len(self.bits), "the message is too short"
        return self.bits[self.at - count : self.at]

    def number(self, width: int) -> int:
        """The next bits as a whole number."""
        return int(self.take(width) or "0", 2)

    def real(self) -> float:
        """The next 32 bits as a float32."""
        return struct.unpack(">f", self.number(32).to_bytes(4, "big"))[0]

    def elias(self) -> int:
        """The next number in the Elias omega code."""
        number = 1
        while (first := self.take(1)) == "1":
            number = int(first + self.take(number), 2)
        return number


def to_bytes(bits: str) -> bytes:
    """Bits as bytes, the last one filled up with zeros."""
    padded = bits + "0" * (-len(bits) % 8)
    return bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))


def real(value: Any) -> str:
    """A float32 as bits."""
    return "".join(f"{byte:08b}" for byte in struct.pack(">f", float(value)))


def whole(value: int, width: int) -> str:
    """A whole number from 0 to 2^width - 1 as bits."""
    assert 0 <= value < 2**width
    return f"{value:0{width}b}" if width else ""


def elias(number: int) -> str:
    """A number from 1 on in the Elias omega code (Elias 1975)."""
    code = "0"
    while number > 1:
        code = f"{number:b}" + code
        number = len(f"{number:b}") - 1
    return code


class Codec(NamedTuple):
    """An encoding of the messages of one transform.

    Attributes:
        pack: The bits of a message, as a text of 0 and 1.
        unpack: The vector `[d]` that a reader holds.
    """

    pack: Callable[[Any], str]
    unpack: Callable[[Reader], np.ndarray]


def float16(d: int) -> Codec:
    """Sign, 5 bits of exponent, 10 of mantissa."""
    return Codec(
        lambda values: "".join(f"{byte:08b}" for byte in np.asarray(values, ">f2").tobytes()),
        lambda reader: np.array([struct.unpack(">e", reader.number(16).to_bytes(2, "big"))[0] for _ in range(d)]),
    )


def bfloat16(d: int) -> Codec:
    """The first 16 bits of a float32."""
    return Codec(
        lambda values: "".join(real(value)[:16] for value in np.asarray(values, np.float32)),
        lambda reader: np.array([Reader(to_bytes(reader.take(16) + "0" * 16)).real() for _ in range(d)]),
    )


def int8(d: int, block: int) -> Codec:
    """For each block its scale and its codes, as codes + 128."""

    def pack(message: Any) -> str:
        bits = ""
        for number, begin in enumerate(range(0, d, block)):
            codes = np.asarray(message.codes, int)[begin : begin + block]
            bits += real(message.scales[number]) + "".join(whole(code + 128, 8) for code in codes)
        return bits

    def unpack(reader: Reader) -> np.ndarray:
        vector = []
        for begin in range(0, d, block):
            scale = reader.real()
            vector += [scale * (reader.number(8) - 128) for _ in range(min(block, d - begin))]
        return np.array(vector)

    return Codec(pack, unpack)


def qsgd(d: int, levels: int = 16, coding: str = "fixed") -> Codec:
    """The length; then a sign and a level for each coordinate, or for each that is not 0 distance, sign and level."""
    width = math.ceil(math.log2(levels + 1))

    def pack(message: Any) -> str:
        signed, bits = np.asarray(message.levels, int), real(message.length)
        if coding == "fixed":
            return bits + "".join(whole(int(level < 0), 1) + whole(abs(int(level)), width) for level in signed)
        places = [-1, *np.flatnonzero(signed)]
        bits += elias(len(places))
        for before, place in itertools.pairwise(places):
            bits += elias(place - before) + whole(int(signed[place] < 0), 1) + elias(abs(int(signed[place])))
        return bits

    def unpack(reader: Reader) -> np.ndarray:
        length, vector, place = reader.real(), np.zeros(d), -1
        if coding == "fixed":
            return np.array([length * (1, -1)[reader.number(1)] * reader.number(width) / levels for _ in range(d)])
        for _ in range(reader.elias() - 1):
            place += reader.elias()
            vector[place] = length * (1, -1)[reader.number(1)] * reader.elias() / levels
        return vector

    return Codec(pack, unpack)


def terngrad(d: int) -> Codec:
    """The scale, and two bits for each coordinate: whether it is not 0, and its sign."""
    return Codec(
        lambda message: real(message.scale) + "".join({0: "00", 1: "10", -1: "11"}[int(s)] for s in message.signs),
        lambda reader: reader.real() * np.array([{"00": 0, "10": 1, "11": -1}[reader.take(2)] for _ in range(d)]),
    )


def sign(d: int) -> Codec:
    """The scale, and a bit for each coordinate."""
    return Codec(
        lambda message: real(message.scale) + "".join("01"[bool(each)] for each in message.negative),
        lambda reader: reader.real() * np.array([(1, -1)[reader.number(1)] for _ in range(d)]),
    )


def natural(d: int) -> Codec:
    """A sign, and the exponent + 127, which is 0 for the number 0."""

    def unpack(reader: Reader) -> np.ndarray:
        signs, exponents = zip(*((reader.number(1), reader.number(8)) for _ in range(d)), strict=True)
        sizes = [0.0 if each == 0 else 2.0 ** (each - 127) for each in exponents]
        return np.array([-size if negative else size for negative, size in zip(signs, sizes, strict=True)])

    return Codec(lambda codes: "".join(whole(int(code), 9) for code in codes), unpack)


def _form(count: int, d: int) -> tuple[str, int]:
    """The shortest way to say which coordinates are sent, and the bits of a place."""
    width = math.ceil(math.log2(d))
    return min((count * (32 + width), "list"), (32 * count + d, "bitmap"), (32 * d, "dense"))[1], width


def _pack_sparse(values: dict[int, Any], d: int) -> str:
    form, width = _form(len(values), d)
    if form == "list":
        return "".join(whole(place, width) + real(value) for place, value in values.items())
    if form == "bitmap":
        given = "".join(real(values[place]) for place in sorted(values))
        return "".join("01"[place in values] for place in range(d)) + given
    return "".join(real(values.get(place, 0)) for place in range(d))


def _unpack_sparse(reader: Reader, count: int, d: int) -> np.ndarray:
    form, width = _form(count, d)
    if form == "dense":
        return np.array([reader.real() for _ in range(d)])
    vector = np.zeros(d)
    if form == "list":
        for _ in range(count):
            place = reader.number(width)
            vector[place] = reader.real()
        return vector
    places = [place for place in range(d) if reader.number(1)]
    vector[places] = [reader.real() for _ in places]
    return vector


def top_k(d: int, k: int) -> Codec:
    """k coordinates with their places."""

    def pack(message: Any) -> str:
        places = np.asarray(message.places, int).tolist()
        assert len({*places}) == k
        return _pack_sparse(dict(zip(places, np.asarray(message.values), strict=True)), d)

    return Codec(pack, lambda reader: _unpack_sparse(reader, k, d))


def threshold(d: int) -> Codec:
    """The number of coordinates that are sent, and these."""
    width = math.ceil(math.log2(d + 1))

    def pack(values: Any) -> str:
        sent = {int(place): np.asarray(values)[place] for place in np.flatnonzero(values)}
        return whole(len(sent), width) + _pack_sparse(sent, d)

    return Codec(pack, lambda reader: _unpack_sparse(reader, reader.number(width), d))


def random_k(d: int, k: int, places: Callable[[int], np.ndarray]) -> Codec:
    """A seed, and the values at the places that both ends draw from it."""

    def unpack(reader: Reader) -> np.ndarray:
        vector = np.zeros(d)
        for place in places(reader.number(32)):
            vector[place] = reader.real() * d / k
        return vector

    return Codec(lambda message: whole(int(message.seed), 32) + "".join(map(real, message.values)), unpack)


def shared_mask(d: int, k: int, places: Callable[[], np.ndarray]) -> Codec:
    """The values at the places that all draw."""

    def unpack(reader: Reader) -> np.ndarray:
        vector = np.zeros(d)
        for place in places():
            vector[place] = reader.real() * d / k
        return vector

    return Codec(lambda values: "".join(map(real, values)), unpack)


def powersgd(shapes: tuple[tuple[int, ...], ...], rank: int) -> Codec:
    """P and Q of each matrix in turn, then all other parameters."""

    def matrix_of(shape: tuple[int, ...]) -> tuple[int, int] | None:
        if len(shape) < 2:
            return None
        a, b = math.prod(shape[:-1]), shape[-1]
        return (a, b) if rank * (a + b) < a * b else None

    def pack(message: Any) -> str:
        numbers = [np.ravel(each) for pair in zip(message.left, message.right, strict=True) for each in pair]
        return "".join(real(value) for value in np.concatenate([*numbers, np.ravel(message.whole)]))

    def unpack(reader: Reader) -> np.ndarray:
        def numbers(*shape: int) -> np.ndarray:
            return np.array([reader.real() for _ in range(math.prod(shape))]).reshape(shape)

        products = []
        for found in filter(None, map(matrix_of, shapes)):
            a, b = found
            p, q = numbers(a, rank), numbers(b, rank)
            products.append(p @ q.T)
        vector = []
        for shape in shapes:
            vector.append(np.ravel(products.pop(0) if matrix_of(shape) else numbers(math.prod(shape))))
        return np.concatenate(vector)

    return Codec(pack, unpack)


def difference(d: int, inner: Codec) -> Codec:
    """A bit that says whether the vector follows or its change, and that; what is unpacked is one of the two."""

    def pack(message: Any) -> str:
        if message.is_whole:
            return "1" + "".join(map(real, message.vector))
        return "0" + inner.pack(message.change)

    def unpack(reader: Reader) -> np.ndarray:
        return np.array([reader.real() for _ in range(d)]) if reader.number(1) else inner.unpack(reader)

    return Codec(pack, unpack)
