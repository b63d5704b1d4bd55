"""All-reduces in plain loops over processes, in float32 and in the order of additions of the textbooks."""

from collections.abc import Callable

import numpy as np

# What a process sends in place of a sum of so many rows: a function of sender, numbers, rows in them, first number.
Send = Callable[[int, np.ndarray, int, int], np.ndarray]


def honest(sender, numbers, rows, begin):
    return numbers


def ring(rows, send: Send = honest):
    m, d = rows.shape
    begins = np.concatenate([[0], np.cumsum([len(each) for each in np.array_split(np.arange(d), m)])])
    held = rows.copy()
    for i in range(2 * (m - 1)):
        sent = []
        for p in range(m):
            c = (p - i) % m
            count = i + 1 if i < m - 1 else m
            sent.append((c, send(p, held[p, begins[c] : begins[c + 1]].copy(), count, begins[c])))
        for p in range(m):
            c, numbers = sent[p]
            to = held[(p + 1) % m]
            mine = slice(begins[c], begins[c + 1])
            to[mine] = to[mine] + numbers if i < m - 1 else numbers
    return held


def tree(rows, send: Send = honest):
    m = len(rows)
    held, counts, gap = rows.copy(), [1] * m, 1
    while gap < m:
        for p in range(0, m, 2 * gap):
            child = p + gap
            if child < m:
                held[p] = held[p] + send(child, held[child].copy(), counts[child], 0)
                counts[p] += counts[child]
        gap *= 2
    while gap > 1:
        gap //= 2
        for p in range(0, m, 2 * gap):
            if p + gap < m:
                held[p + gap] = send(p, held[p].copy(), m, 0)
    return held


def butterfly(rows, send: Send = honest):
    m = len(rows)
    core = 1
    while 2 * core <= m:
        core *= 2
    held, counts = rows.copy(), [1] * m
    for p in range(core, m):
        held[p - core] = held[p - core] + send(p, held[p].copy(), 1, 0)
        counts[p - core] = 2
    gap = 1
    while gap < core:
        sent = [send(p, held[p].copy(), counts[p], 0) for p in range(core)]
        before = [*counts]
        for p in range(core):
            other = p + gap if p // gap % 2 == 0 else p - gap
            held[p] = held[p] + sent[other]
            counts[p] = before[p] + before[other]
        gap *= 2
    for p in range(core, m):
        held[p] = send(p - core, held[p - core].copy(), m, 0)
    return held


def round_robin(rows, send: Send = honest):
    m, d = rows.shape
    parts = np.array_split(np.arange(d), m)
    held = rows.copy()
    for p in range(m):
        for i in range(1, m):
            q = (p - i) % m
            held[p, parts[p]] = held[p, parts[p]] + send(q, rows[q, parts[p]], 1, parts[p][0] if len(parts[p]) else 0)
    sums = [held[p, parts[p]] for p in range(m)]
    for p in range(m):
        for q in range(m):
            if p != q:
                held[q, parts[p]] = send(p, sums[p].copy(), m, parts[p][0] if len(parts[p]) else 0)
    return held


def all_to_all(rows, send: Send = honest):
    total = rows[0]
    for row in rows[1:]:
        total = total + row
    return np.stack([total] * len(rows))


def master_worker(rows, send: Send = honest):
    total = rows[0]
    for p in range(1, len(rows)):
        total = total + send(p, rows[p], 1, 0)
    return np.stack([total, *(send(0, total.copy(), len(rows), 0) for _ in rows[1:])])


def in_all(liar: int, forged: np.ndarray) -> Send:
    """A process that sends in place of a sum of j rows j times its own row."""

    def send(sender, numbers, rows, begin):
        return np.float32(rows) * forged[begin : begin + len(numbers)] if sender == liar else numbers

    return send


def costs(name: str, m: int, d: int) -> tuple[int, int, tuple[int, int]]:
    """The messages of an all-reduce of d numbers, the numbers in them, and its time: so many latencies, and the numbers
    that are sent one after the other."""
    log, power = int(np.ceil(np.log2(m))), 2 ** int(np.log2(m))
    part = -(-d // m)
    if name in ("ring", "round_robin"):
        return 2 * m * (m - 1), 2 * (m - 1) * d, (2 * (m - 1), 2 * (m - 1) * part)
    if name == "tree":
        return 2 * (m - 1), 2 * (m - 1) * d, (2 * log, 2 * log * d)
    if name == "butterfly":
        doubling, folded = int(np.log2(m)), m - power
        messages, exchanges = power * doubling + 2 * folded, doubling + (2 if folded else 0)
        return messages, messages * d, (exchanges, exchanges * d)
    if name == "all_to_all":
        return m * (m - 1), m * (m - 1) * d, (m - 1, (m - 1) * d)
    return 2 * (m - 1), 2 * (m - 1) * d, (2 * (m - 1), 2 * (m - 1) * d)
