"""Updates per second of each schedule in each executor, and the time that planning takes.

Runs train an mlp on digits with 20 workers whose times are lognormal; each executor runs every scenario several times
in one session, and the median of the later runs counts. Planning is timed alone: the timeline of many workers and
updates, for each schedule; the floor is what drawing the times of its jobs takes.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from byzax.experiments.writing import write_numbers
from byzax.simulator import compilation
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.durations import MessageBits, build_draws
from byzax.simulator.executors import session
from byzax.simulator.executors.base import plan

WORKERS = 20
EXECUTORS = {
    "loop": {"name": "loop"},
    "vectorised": {"name": "vectorised"},
    "ray": {"name": "ray"},
    "ray, on the clock": {"name": "ray"},
}
SCHEDULES = {
    "synchronous": {"name": "synchronous"},
    "synchronous, quorum n-f": {"name": "synchronous", "quorum": "n-f"},
    "stale_synchronous, bound 3": {"name": "stale_synchronous", "bound": 3},
    "asynchronous, table": {"name": "asynchronous"},
    "asynchronous, buffer of 10": {"name": "asynchronous", "apply": "buffer", "rows": 10},
    "asynchronous, each": {"name": "asynchronous", "apply": "each"},
    "basgd, 11 buckets": {"name": "basgd", "buckets": 11},
}
# Factor of fewer planned updates for schedules with many rows per update.
MANY_ROWS = {"synchronous, quorum n-f": 100, "basgd, 11 buckets": 10}


def scenario(schedule: dict[str, Any], n: int, steps: int, **changes: Any) -> Study:
    """A run without evaluations between the first and the last one.

    Args:
        schedule: The schedule.
        n: Number of workers.
        steps: Number of updates.
        changes: Other keys of the scenario.

    Returns:
        The run; its rule is average where every row is applied alone, else median.
    """
    alone = schedule.get("apply") == "each"
    return parse_as(
        Study,
        {
            "name": "schedules",
            "steps": steps,
            "evaluate_every": steps,
            "workers": {"total": n, "byzantine": n // 5, "declared": 0 if alone else n // 5},
            "data": {"name": "digits", "batch_size": 32},
            "model": {"name": "mlp", "hidden": [100]},
            "rule": "average" if alone else "median",
            "attack": "empire",
            "schedule": schedule,
            "latency": {"name": "lognormal", "median": 1.0, "sigma": 0.5},
            **changes,
        },
    )


def measure(schedule: dict[str, Any], executor: str, steps: int, runs: int) -> float:
    """Measures the speed of a schedule.

    Args:
        schedule: The schedule.
        executor: Name in `EXECUTORS`.
        steps: Number of updates of a run.
        runs: Number of runs after the first one.

    Returns:
        Updates per second, of the median run after the first.
    """
    wall = {"clock": "wall", "latency": {"name": "constant", "seconds": 0.0}} if "clock" in executor else {}
    described = scenario(schedule, WORKERS, steps, executor=EXECUTORS[executor], **wall)
    seconds = []
    with session(described.executor) as execute:
        for _ in range(runs + 1):
            first, *_, last = execute(described.task)
            seconds.append(last.wall_s - first.wall_s)
    return steps / statistics.median(seconds[1:])


def time_planning(schedule: dict[str, Any], n: int, updates: int) -> dict[str, float]:
    """Measures the planning of a timeline.

    Args:
        schedule: The schedule.
        n: Number of workers.
        updates: Number of updates.

    Returns:
        Seconds of planning, the number of jobs, and the seconds of drawing as many times.
    """
    described = scenario(schedule, n, updates)
    begin = time.perf_counter()
    timeline = plan(described.run)
    took = time.perf_counter() - begin
    jobs = len(timeline.rows.jobs) + len(timeline.unused.jobs)
    begin = time.perf_counter()
    for draw in build_draws(described.latency, n, 0, MessageBits(0, 0, 0)):
        draw(0, jobs // n)
    return {"planning_s": took, "jobs": jobs, "drawing_s": time.perf_counter() - begin}


def run(steps: int, repeats: int, workers: int, updates: int, path: Path | None, say: Callable[[str], None]) -> None:
    """Measures all schedules.

    Args:
        steps: Number of updates of a run.
        repeats: Number of runs after the first one.
        workers: Number of workers of planned timelines.
        updates: Number of updates of planned timelines.
        path: File for all numbers as JSON; None for none.
        say: Receives the lines of the tables.
    """
    compilation.use_disk_cache()
    table: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        table.append(row)
        if path is not None:
            write_numbers(path, {"records": table})

    say(f"{os.cpu_count()} cores, jax {jax.__version__}, {jax.default_backend()}")
    say(f"planning timelines of {workers} workers")
    say(f"{'schedule':28} {'updates':>9} {'s':>8} {'jobs':>11} {'us a job':>9} {'drawing s':>10}")
    for name, schedule in SCHEDULES.items():
        count = max(1, updates // MANY_ROWS.get(name, 1))
        measured = {"updates": count, **time_planning(schedule, workers, count)}
        keep({"schedule": name, **measured})
        each = measured["planning_s"] / measured["jobs"] * 1e6
        numbers = f"{measured['planning_s']:8.2f} {measured['jobs']:11.0f} {each:9.2f} {measured['drawing_s']:10.2f}"
        say(f"{name:28} {count:9} {numbers}")
    say(f"updates per second: mlp on digits, {WORKERS} workers, {steps} updates")
    say(f"{'schedule':28} " + " ".join(f"{executor:>18}" for executor in EXECUTORS))
    for name, schedule in SCHEDULES.items():
        rates = []
        for executor in EXECUTORS:
            rates.append(measure(schedule, executor, steps, repeats))
            keep({"schedule": name, "executor": executor, "updates_per_s": rates[-1]})
        say(f"{name:28} " + " ".join(f"{rate:18.1f}" for rate in rates))
