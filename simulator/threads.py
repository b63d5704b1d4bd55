"""Threads of XLA, which splits some sums by how many it has: that changes their last bits.

With one thread per process numbers do not depend on the number of cores; Ray uses the cores through its actors.
"""

import os
import warnings
from contextlib import suppress
from pathlib import Path

import jax

# what XLA calls its threads on the CPU, and where Linux lists them
NAME, TASKS = "tf_XLAEigen", Path("/proc/self/task")


def wanted() -> int:
    """How many threads XLA is to have: `$NPROC`, which XLA reads itself, else `$BYZAX_THREADS`, else 1.

    Raises ValueError where that is no number.
    """
    given = os.environ.get("NPROC") or os.environ.get("BYZAX_THREADS") or "1"
    if not given.isdecimal() or not int(given):
        raise ValueError(f"$NPROC and $BYZAX_THREADS are numbers of threads from 1 on, got {given!r}")
    return int(given)


def counted() -> int | None:
    """How many threads XLA has in this process, 0 before it starts; None where the system does not tell."""
    if not TASKS.exists():
        return None
    count = 0
    for task in TASKS.iterdir():
        # a thread may end meanwhile
        with suppress(OSError):
            count += (task / "comm").read_text().strip() == NAME
    return count


def start_with(count: int) -> None:
    """Start XLA with so many threads, unless it has started. The environment of the process stays as it is."""
    before = os.environ.get("NPROC")
    os.environ["NPROC"] = str(count)
    try:
        jax.devices()
    finally:
        if before is None:
            del os.environ["NPROC"]
        else:
            os.environ["NPROC"] = before


def start() -> None:
    """Start XLA with the threads that it is to have; warn where it has started with others."""
    count = wanted()
    start_with(count)
    found = counted()
    if found is not None and found != count:
        warnings.warn(
            f"JAX had started before byzax, with {found} threads in place of {count}: numbers may differ in their last "
            "bits from those of another machine, and of Ray's actors. Call byzax first, or set NPROC=1 before JAX "
            f"starts; BYZAX_THREADS={found} says that they are meant",
            stacklevel=2,
        )
