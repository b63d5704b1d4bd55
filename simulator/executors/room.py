"""Room on this machine for the processes of an embedded Ray."""

import os
from pathlib import Path

from byzax.simulator.config.executors import Ray
from byzax.simulator.config.study import Task
from byzax.simulator.mistakes import ScenarioError
from byzax.simulator.parts import message_bits
from byzax.simulator.world import load

# Private memory of a worker actor that has trained softmax on digits: 300 to 315 MB (Ray 2.60, JAX 0.10, x86), of which
# 130 are imports and 85 the compiled functions.
ACTOR_BYTES = 300 * 2**20
# Processes for each core from which it is said that they share cores: to start one takes some seconds of a core.
CROWDED = 8


def processes(task: Task) -> int:
    """The actors of a task on this machine: those of workers, the server, and the adversary where it has one."""
    executor, n = task.executor, task.run.workers.total
    assert isinstance(executor, Ray)
    if executor.workers_per_actor is not None:
        count = -(-n // executor.workers_per_actor)
    else:
        count = min(n, cores() if executor.actors == "auto" else executor.actors)
    return count + 1 + executor.adversary_actor


def needed_bytes(task: Task) -> int:
    """An estimate of their memory in all: each has the samples and a few models."""
    return processes(task) * (_with_samples(task) + message_bits(task.run))


def bytes_alone(task: Task) -> int:
    """An estimate of the memory of a process that executes a task alone: it has the samples and a few rows of each
    worker."""
    return _with_samples(task) + task.run.workers.total * message_bits(task.run)


def _with_samples(task: Task) -> int:
    """The memory of a process with the samples, on the host and as JAX has them."""
    data = load(task.run.data)
    return ACTOR_BYTES + 2 * (data.x.nbytes + data.y.nbytes)


def check(task: Task) -> str:
    """A line about processes that share cores; empty where each has a core, or nearly so.

    Raises:
        ScenarioError: they need more memory than is free.
    """
    count, needed, free = processes(task), needed_bytes(task), free_bytes()
    executor = task.executor
    assert isinstance(executor, Ray)
    key = "actors" if executor.workers_per_actor is None else "workers_per_actor"
    size = f"{count} processes take about {needed / 1e9:.3g} GB"
    if free is not None and needed > free:
        most = max(1, int(free / (needed / count)) - 1 - executor.adversary_actor)
        way_out = f"{key}: {most if key == 'actors' else -(-task.run.workers.total // most)}"
        raise ScenarioError(
            f"executor.{key}: {size} ({needed / count / 1e6:.0f} MB each), and {free / 1e9:.3g} GB are free: take "
            f"{way_out}, or actors: auto, which is one actor for each core"
        )
    if count <= CROWDED * cores():
        return ""
    return (
        f"executor.{key}: {size} and share {cores()} cores, each some seconds to start: actors: auto has one for each "
        "core and gives the same numbers"
    )


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes(root: Path = Path("/")) -> int | None:
    """The memory that is free on this machine, or in this container; None where the system does not tell."""
    found = []
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        return None
    for limit, used in (
        ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
    ):  # fmt: skip
        try:
            most, present = ((root / "sys/fs/cgroup" / name).read_text().strip() for name in (limit, used))
        except OSError:
            continue
        if most.isdecimal():
            found.append(max(0, int(most) - int(present)))
    return min(found, default=None)
