"""All-reduces as messages: who sends whom which part of a vector, step by step, in six algorithms of the textbooks."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Transfer(NamedTuple):
    """A message of an all-reduce.

    Attributes:
        sender: The process that sends it.
        receiver: The process that receives it.
        chunk: The chunk of the vector that it holds.
        adds: Whether the receiver adds it to its own chunk; else it takes the place of that.
    """

    sender: int
    receiver: int
    chunk: int
    adds: bool


class AllReduce(NamedTuple):
    """An algorithm for m processes.

    Attributes:
        chunks: Number of chunks that the vector is cut into.
        exchanges: The messages that are under way at the same time, exchange by exchange: each process sends one of
            them at most, and receives one at most.
        gathers: Whether a process keeps the rows that it receives and adds all of them in the end, in the order of the
            processes' numbers; else it adds each at once to what it has so far.
    """

    chunks: int
    exchanges: tuple[tuple[Transfer, ...], ...]
    gathers: bool = False


def ring(m: int) -> AllReduce:
    """In step i each process p sends chunk (p - i) mod m to the next one, which adds it, from step m - 1 on takes it.

    Args:
        m: Number of processes.

    Returns:
        2 (m - 1) exchanges of m messages of one of m chunks.
    """
    return AllReduce(
        m,
        tuple(
            tuple(Transfer(p, (p + 1) % m, (p - i) % m, adds=i < m - 1) for p in range(m)) for i in range(2 * (m - 1))
        ),
    )


def tree(m: int) -> AllReduce:
    """Sums go up a binary tree to process 0, and the whole sum goes down the same way.

    In exchange l of the way up the processes p = 2^l mod 2^(l+1) send to p - 2^l.

    Args:
        m: Number of processes.

    Returns:
        2 ceil(log2 m) exchanges, with 2 (m - 1) messages of the whole vector in all.
    """
    up = [tuple(Transfer(p, p - gap, 0, True) for p in range(gap, m, 2 * gap)) for gap in _powers(m)]
    return AllReduce(1, (*up, *_backwards(up)))


def butterfly(m: int) -> AllReduce:
    """Recursive doubling: in exchange l processes p and p xor 2^l send each other what they have, and add it.

    Where m is no power of two it is done by the first 2^k processes, with 2^k the largest power below m: process
    2^k + p sends its row to process p before, and gets the sum from it afterwards.

    Args:
        m: Number of processes.

    Returns:
        log2 m exchanges of m messages of the whole vector; else k + 2 exchanges, of which the k in the middle have 2^k.
    """
    core = 1 << (m.bit_length() - 1)
    folded = [tuple(Transfer(p, p - core, 0, True) for p in range(core, m))] if core < m else []
    doubling = [tuple(Transfer(p, p ^ gap, 0, True) for p in range(core)) for gap in _powers(core)]
    return AllReduce(1, (*folded, *doubling, *_backwards(folded)))


def round_robin(m: int) -> AllReduce:
    """In step i each process p sends to process (p + i) mod m, first the chunk of that one, and then its own chunk.

    Process p adds up chunk p of all rows, in the order in which they arrive, and sends the sum to all others.

    Args:
        m: Number of processes.

    Returns:
        2 (m - 1) exchanges of m messages of one of m chunks.
    """
    to = [[(p, (p + i) % m) for p in range(m)] for i in range(1, m)]
    reducing = [tuple(Transfer(p, other, other, True) for p, other in pairs) for pairs in to]
    sharing = [tuple(Transfer(p, other, p, False) for p, other in pairs) for pairs in to]
    return AllReduce(m, (*reducing, *sharing))


def all_to_all(m: int) -> AllReduce:
    """In step i each process p sends its row to process (p + i) mod m.

    Args:
        m: Number of processes.

    Returns:
        m - 1 exchanges of m messages of the whole vector.
    """
    return AllReduce(
        1, tuple(tuple(Transfer(p, (p + i) % m, 0, True) for p in range(m)) for i in range(1, m)), gathers=True
    )


def master_worker(m: int) -> AllReduce:
    """All others send their rows to process 0 one after the other, and then it sends the sum to one after the other.

    Args:
        m: Number of processes.

    Returns:
        2 (m - 1) exchanges of one message of the whole vector.
    """
    up = [(Transfer(p, 0, 0, True),) for p in range(1, m)]
    return AllReduce(1, (*up, *((Transfer(0, p, 0, False),) for p in range(1, m))))


ALGORITHMS: dict[str, Callable[[int], AllReduce]] = {
    each.__name__: each for each in (ring, tree, butterfly, round_robin, all_to_all, master_worker)
}


def _powers(m: int) -> list[int]:
    """The powers of two below m."""
    return [1 << level for level in range((m - 1).bit_length())]


def _backwards(exchanges: list[tuple[Transfer, ...]]) -> list[tuple[Transfer, ...]]:
    """The same ways back, for sums that take the place of what is there."""
    return [tuple(Transfer(to, by, chunk, False) for by, to, chunk, _ in each) for each in reversed(exchanges)]


def count_rows(m: int, made: AllReduce) -> list[dict[int, int]]:
    """The numbers of rows that are summed in messages.

    Args:
        m: Number of processes.
        made: The algorithm.

    Returns:
        For each exchange the number of rows in the message of each process that sends one.

    Raises:
        ValueError: Where a process adds a row twice, or has not the sum of all rows in the end.
    """
    held = [[{p} for _ in range(made.chunks)] for p in range(m)]
    found = []
    for exchange in made.exchanges:
        sent = [{each.sender} if made.gathers else {*held[each.sender][each.chunk]} for each in exchange]
        for each, rows in zip(exchange, sent, strict=True):
            mine = held[each.receiver][each.chunk]
            if each.adds and mine & rows:
                raise ValueError(f"process {each.receiver} adds chunk {each.chunk} of row {min(mine & rows)} twice")
            held[each.receiver][each.chunk] = mine | rows if each.adds else rows
        found.append({each.sender: len(rows) for each, rows in zip(exchange, sent, strict=True)})
    if wrong := [p for p, chunks in enumerate(held) if any(len(rows) < m for rows in chunks)]:
        raise ValueError(f"process {wrong[0]} has not the sum of all rows in the end")
    return found


def chunk_sizes(d: int, chunks: int) -> np.ndarray:
    """The sizes of the chunks of a vector.

    Args:
        d: Numbers in the vector.
        chunks: Number of chunks.

    Returns:
        `[chunks]`: equal ones where `chunks` divides d; else the first `d mod chunks` have one number more.
    """
    return d // chunks + (np.arange(chunks) < d % chunks)
