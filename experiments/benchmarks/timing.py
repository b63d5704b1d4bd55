"""What the benchmarks share: the rows, the clock and the memory."""

import ctypes
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator import interrupts

BUDGET_S = 10.0  # for the repeats of one measurement; at least one is made


def benchmark_rows(n: int, d: int) -> np.ndarray:
    """The rows `[n, d]`, float32, that all are measured on: normal, the same in every process."""
    # JAX takes an array that begins at a multiple of 64 bytes as it is, any other as a copy
    buffer = np.empty(4 * n * d + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    rows = buffer[start : start + 4 * n * d].view(np.float32).reshape(n, d)
    np.random.default_rng(0).standard_normal(dtype=np.float32, out=rows)
    return rows


def time_calls(
    function: Callable[[], Any], repeats: int, prepare: Callable[[], Any] = lambda: None
) -> dict[str, float]:
    """Seconds of `repeats` calls (fewer where they take long): median and best. The caller has made a first call.

    `prepare` is called before each of them and not timed.
    """
    taken: list[float] = []
    while len(taken) < repeats and (not taken or sum(taken) + min(taken) < BUDGET_S):
        interrupts.check()
        prepare()
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return {"time_s": sorted(taken)[len(taken) // 2], "best_s": min(taken), "calls": len(taken)}


class PeakMemory(NamedTuple):
    """The most memory that a process held during a call: beyond what it held before, and all in all, in bytes."""

    extra: int
    total: int


def peak_memory(function: Callable[[], Any]) -> PeakMemory | None:
    """The most memory this process holds during the call, its result included; None where Linux is not there."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (sys.platform == "linux" and status.exists()):
        return None

    def resident(field: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return 1024 * int(line.split()[1])

    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before is given back, else it would be used unseen
        reset.write_text("5")  # the peak is now the present
    except (OSError, AttributeError):
        return None
    before = resident("VmRSS")
    kept = function()  # its result counts
    peak = resident("VmHWM")
    del kept
    return PeakMemory(max(peak - before, 0), peak)
