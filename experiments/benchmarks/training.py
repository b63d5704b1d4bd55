"""Updates per second of the three executors, and of two devices.

Data are made (the size of MNIST images): nothing is read, and times do not depend on the values. Each executor runs
every scenario several times in one session, and the median of the later runs counts: compilation and the start of Ray
are timed apart. The floor is what the gradients alone take in one thread, one worker after the other.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax

from byzax.experiments.writing import write_numbers
from byzax.simulator import compilation, interrupts
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.executors import devices_of
from byzax.simulator.config.study import Study
from byzax.simulator.executors import session
from byzax.simulator.executors.base import prepare
from byzax.simulator.world import world

WORKERS = 20
RULES = ("average", "median", "krum")
MODELS = {"mlp": {"name": "mlp", "hidden": [100]}, "cnn": {"name": "cnn"}}
STEPS = {"mlp": 200, "cnn": 10}  # updates of a run
EXECUTORS = {
    "loop": {"name": "loop"},
    "vectorised": {"name": "vectorised"},
    "vectorised, two devices": {"name": "vectorised", "mesh": {"workers": 2}},
    "ray, actors: auto": {"name": "ray"},
    "ray, actors: auto, batch": {"name": "ray", "batch": True},
}


def scenario(model: dict[str, Any], rule: str, executor: dict[str, Any], steps: int) -> Study:
    """A run without evaluations between the first and the last one.

    Args:
        model: The model.
        rule: The rule.
        executor: The executor.
        steps: Number of updates.

    Returns:
        The run.
    """
    return parse_as(
        Study,
        {
            "name": "training",
            "steps": steps,
            "evaluate_every": steps,
            "workers": {"total": WORKERS, "byzantine": 4},
            "data": {"name": "gaussian_mixture", "samples": 3000, "shape": [28, 28], "batch_size": 32},
            "model": model,
            "rule": rule,
            "attack": "little",
            "executor": executor,
        },
    )


def time_gradients(described: Study, workers: int, steps: int = 20) -> float:
    """Measures the jobs of the workers of one update, in one thread, without aggregation.

    Args:
        described: The run.
        workers: Number of workers.
        steps: Number of updates.

    Returns:
        Seconds per update.
    """
    core = prepare(described.run).first
    here = world(described.run)
    params = core.start(here).params
    jax.block_until_ready(core.work(here, params, 0, 0, 0))
    begin = time.perf_counter()
    for job in range(steps):
        interrupts.check()
        jax.block_until_ready([core.work(here, params, worker, job, job) for worker in range(workers)])
    return (time.perf_counter() - begin) / steps


def measure(model: str, rule: str, executor: str, steps: int, runs: int) -> dict[str, Any]:
    """Measures the speed of an executor.

    Args:
        model: Name in `MODELS`.
        rule: The rule.
        executor: Name in `EXECUTORS`.
        steps: Number of updates of a run.
        runs: Number of runs after the first one.

    Returns:
        One row of the table.
    """
    described = scenario(MODELS[model], rule, EXECUTORS[executor], steps)
    begin = time.perf_counter()
    with session(described.executor) as execute:
        first, last = execute(described.task)
        first_s = last.wall_s - first.wall_s
        start_s = time.perf_counter() - begin - first_s
        seconds = []
        for _ in range(runs):
            first, last = execute(described.task)
            seconds.append(last.wall_s - first.wall_s)
    return {
        "model": model,
        "rule": rule,
        "executor": executor,
        "start_s": start_s,
        "first_s": first_s,
        "updates_per_s": steps / statistics.median(seconds),
    }


def measure_apart(*arguments: Any) -> dict[str, Any]:
    """The same as `measure` in a process of its own, as JAX has one number of devices in a process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def run(
    rules: Sequence[str],
    models: Sequence[str],
    steps: int | None,
    repeats: int,
    path: Path | None,
    say: Callable[[str], None],
) -> None:
    """Measures all executors.

    Args:
        rules: The rules.
        models: Names in `MODELS`.
        steps: Number of updates of a run; None for `STEPS`.
        repeats: Number of runs after the first one.
        path: File for all numbers as JSON; None for none.
        say: Receives the lines of the table.
    """
    for model in models:
        for rule in rules:
            # mistakes are reported before the first measurement
            scenario(MODELS[model], rule, {"name": "loop"}, steps or STEPS[model])
    compilation.use_disk_cache()
    say(f"{WORKERS} workers, batch 32, {os.cpu_count()} cores, jax {jax.__version__}, {jax.default_backend()}")
    say(f"{'model':6} {'rule':9} {'executor':26} {'updates/s':>10} {'of floor':>9} {'start s':>8} {'first run s':>12}")
    table = []
    for model in models:
        updates = steps or STEPS[model]
        for rule in rules:
            floor = 1 / time_gradients(scenario(MODELS[model], rule, {"name": "loop"}, updates), WORKERS, updates)
            say(f"{model:6} {rule:9} {'gradients alone (floor)':26} {floor:10.1f} {1:9.2f}")
            for executor in EXECUTORS:
                on_mesh = devices_of(scenario(MODELS[model], rule, EXECUTORS[executor], updates).executor) > 1
                if on_mesh and jax.default_backend() != "cpu" and len(jax.devices()) == 1:
                    continue
                measured = (measure_apart if on_mesh else measure)(model, rule, executor, updates, repeats)
                row = {**measured, "floor_updates_per_s": floor}
                table.append(row)
                say(
                    f"{model:6} {rule:9} {executor:26} {row['updates_per_s']:10.1f} "
                    f"{row['updates_per_s'] / floor:9.2f} "
                    f"{row['start_s']:8.1f} {row['first_s']:12.1f}"
                )
                if path is not None:  # finished measurements are kept
                    write_numbers(path, {"records": table})
