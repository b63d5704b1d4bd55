"""Memory that the C library keeps once it is freed, for the next update."""

import contextlib
import ctypes
import os

# Numbers of the parameters of mallopt in malloc.h of glibc.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
# Arrays up to this size come from memory that is kept, and so much of it is kept at most, bytes.
KEPT_ARRAY, KEPT = 128 * 2**20, 256 * 2**20
# Variables by which a user sets these parameters.
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Makes glibc keep freed memory, up to `KEPT` bytes, for what is asked for next.

    XLA's products allocate some MB in every update and free them. Memory that goes back to the system each time is
    zeroed and mapped anew, page by page (a sixth of the time of an update of 51 workers; `byzax bench training`). All
    threads share one arena: the others give back whole heaps, whatever the threshold.

    Returns:
        Whether it does: False for another C library, and where one of `VARIABLES` is set.
    """
    if any(os.environ.get(name) for name in VARIABLES):
        return False
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        wanted = {TRIM_THRESHOLD: KEPT, MMAP_THRESHOLD: KEPT_ARRAY, ARENA_MAX: 1}
        return all(mallopt(parameter, value) == 1 for parameter, value in wanted.items())
    return False
