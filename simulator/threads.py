"""The numbers of threads and of devices of XLA on the CPU, which some results depend on.

XLA splits some sums by its number of threads, which changes their last bits. With one thread per process numbers do not
depend on the number of cores; Ray uses the cores through its actors, and a mesh through devices of one thread each.
"""

import contextlib
import functools
import inspect
import os
import warnings
from pathlib import Path

import jax

from byzax.simulator.allocation import keep_freed_memory
from byzax.simulator.mistakes import ScenarioError

# name that XLA gives its threads on the CPU, and the place where Linux lists the threads of a process
NAME, TASKS = "tf_XLAEigen", Path("/proc/self/task")
# the number of XLA's threads, once they are there
_counted: list[int] = []


def requested() -> int:
    """The number of threads that XLA shall have: `$NPROC`, which XLA reads itself, else `$BYZAX_THREADS`, else 1.

    Raises:
        ValueError: Where the variable is not a number of threads.
    """
    text = os.environ.get("NPROC") or os.environ.get("BYZAX_THREADS") or "1"
    if not text.isdecimal() or not int(text):
        raise ValueError(f"$NPROC and $BYZAX_THREADS are numbers of threads from 1 on, got {text!r}")
    return int(text)


def running() -> int | None:
    """The number of threads that XLA has in this process, 0 before it starts; None where the system does not tell.

    XLA keeps the number that it starts with. It is counted once: threads that other libraries start from one of XLA's
    have its name.
    """
    if not TASKS.exists():
        return None
    if not _counted:
        count = 0
        for task in TASKS.iterdir():
            # a thread may end meanwhile
            with contextlib.suppress(OSError):
                count += (task / "comm").read_text().strip() == NAME
        if not count:
            return 0
        _counted.append(count)
    return _counted[0]


def start_with(count: int, devices: int = 1) -> None:
    """Starts XLA with a number of threads, unless it has started. The environment of the process stays as it is.

    Args:
        count: Number of threads.
        devices: Number of devices on the CPU, whose threads are among these.
    """
    # a process of several has said how many of the devices are its own
    if devices > 1 and not jax.distributed.is_initialized():
        # refused where it has started
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)
    # before its threads begin to allocate
    keep_freed_memory()
    before = os.environ.get("NPROC")
    os.environ["NPROC"] = str(count)
    try:
        jax.devices()
    finally:
        if before is None:
            del os.environ["NPROC"]
        else:
            os.environ["NPROC"] = before


def start(devices: int = 1) -> None:
    """Starts XLA with the requested number of threads, and warns, once, where it has started with another one.

    Args:
        devices: Number of devices on the CPU, each with a thread of its own. See `start_with`.

    Raises:
        ValueError: As `requested`.
        ScenarioError: Where there are fewer devices.
    """
    count = max(requested(), devices)
    start_with(count, devices)
    _check_devices(devices)
    running_threads = running()
    if running_threads is not None and running_threads != count:
        _warn(running_threads, count)


def _check_devices(devices: int) -> None:
    there, backend = len(jax.devices()), jax.default_backend()
    if there >= devices:
        return
    if backend == "cpu":
        raise ScenarioError(
            f"executor.mesh: {devices} devices are needed, and JAX has started with {there} in this process: "
            f"take a new process for this run, or set JAX_NUM_CPU_DEVICES={devices} before JAX starts"
        )
    raise ScenarioError(
        f"executor.mesh: {devices} devices are needed, and JAX has {there} ({backend}): take at most {there}"
    )


def _level_of_user() -> int:
    """The `stacklevel`, seen from its caller, of the first line that is none of byzax."""
    level, frame = 1, inspect.currentframe()
    own = f"{Path(__file__).parents[1]}{os.sep}"
    while frame is not None and frame.f_code.co_filename.startswith((own, functools.__file__, contextlib.__file__)):
        level, frame = level + 1, frame.f_back
    return level - 1


@functools.cache
def _warn(running_threads: int, count: int) -> None:
    warnings.warn(
        f"JAX had started before byzax, with {running_threads} threads in place of {count}: numbers may differ in "
        "their last bits from those of another machine, and of Ray's actors. Call byzax first, or set NPROC=1 before "
        f"JAX starts; BYZAX_THREADS={running_threads} says that they are meant",
        stacklevel=_level_of_user(),
    )
