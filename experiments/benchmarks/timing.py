"""Rows, clock and memory of the benchmarks."""

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator import interrupts

BUDGET_S = 10.0  # for the repeats of one measurement; at least one is made


def benchmark_rows(n: int, d: int) -> np.ndarray:
    """The rows of all measurements: normal, the same in every process.

    Args:
        n: Number of rows.
        d: Number of parameters.

    Returns:
        `[n, d]`, float32.
    """
    # JAX takes an array that begins at a multiple of 64 bytes as it is, any other as a copy
    buffer = np.empty(4 * n * d + 64, np.uint8)
    start = -buffer.ctypes.data % 64
    rows = buffer[start : start + 4 * n * d].view(np.float32).reshape(n, d)
    np.random.default_rng(0).standard_normal(dtype=np.float32, out=rows)
    return rows


def time_calls(
    function: Callable[[], Any],
    repeats: int,
    prepare: Callable[[], Any] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Times calls of a function, after a first call by the caller.

    Args:
        function: The function.
        repeats: Number of calls; fewer are made where they take long.
        prepare: Called before each of them, and not timed.
        clock: Gives the time in seconds; `time.process_time` gives that of the processor.

    Returns:
        `time_s`, the median, and `best_s`, in seconds; `calls`, their number.
    """
    taken: list[float] = []
    while len(taken) < repeats and (not taken or sum(taken) + min(taken) < BUDGET_S):
        interrupts.check()
        prepare()
        start = clock()
        function()
        taken.append(clock() - start)
    return {"time_s": sorted(taken)[len(taken) // 2], "best_s": min(taken), "calls": len(taken)}


class PeakMemory(NamedTuple):
    """The largest memory of a process during a call.

    Attributes:
        extra: Bytes beyond those before the call.
        total: All bytes.
    """

    extra: int
    total: int


def peak_memory(function: Callable[[], Any]) -> PeakMemory | None:
    """Measures the largest memory of this process during a call, its result included.

    Args:
        function: The function.

    Returns:
        The memory; None where the system is not Linux.
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not (sys.platform == "linux" and status.exists()):
        return None

    def resident(field: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return 1024 * int(line.split()[1])

    try:
        ctypes.CDLL(None).malloc_trim(0)  # freed memory is given back, else its use would not count
        reset.write_text("5")  # the peak is now the present
    except (OSError, AttributeError):
        return None
    before = resident("VmRSS")
    kept = function()  # its result counts
    peak = resident("VmHWM")
    del kept
    return PeakMemory(max(peak - before, 0), peak)


class Family(NamedTuple):
    """This process and those that it started, and that these started.

    Attributes:
        cpu_s: Seconds of CPU of all, since each was started.
        actor_bytes: Resident memory of the largest of Ray's actors; 0 where there are none.
    """

    cpu_s: float
    actor_bytes: int


def family() -> Family | None:
    """Measures this process and its descendants; None where the system has no /proc."""
    if not Path("/proc/self/stat").exists():
        return None
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        # a process may end meanwhile
        with contextlib.suppress(OSError):
            name, values = (folder / "stat").read_text().rsplit(")", 1)
            found[int(folder.name)] = name.split("(", 1)[1], values.split()
    mine, before = {os.getpid()}, 0
    while len(mine) > before:
        before = len(mine)
        mine |= {number for number, (_, values) in found.items() if int(values[1]) in mine}
    ticks = sum(int(found[number][1][i]) for number in mine & found.keys() for i in (11, 12))
    pages = [int(found[number][1][21]) for number in mine & found.keys() if found[number][0].endswith("Acto")]
    return Family(ticks / os.sysconf("SC_CLK_TCK"), max(pages, default=0) * os.sysconf("SC_PAGE_SIZE"))
