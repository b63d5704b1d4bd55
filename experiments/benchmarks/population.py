"""Updates per second, and memory, where each update takes a few of many clients.

Data are made (the size of MNIST images), shared unevenly; every client keeps a momentum. As in `training`, a run is
timed several times in one session, and the floor is what the local steps alone take in one thread.
"""

import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from byzax.experiments.benchmarks.timing import peak_memory
from byzax.experiments.benchmarks.training import time_gradients
from byzax.experiments.writing import write_numbers
from byzax.simulator import compilation
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors import session
from byzax.simulator.parts import message_bits

RULES = ("average", "median", "krum")
EXECUTORS = {"vectorised": {"name": "vectorised"}, "ray, actors: auto": {"name": "ray"}}


def scenario(clients: int, participants: int, rule: str, executor: dict[str, Any], steps: int) -> Study:
    """A run without evaluations between the first and the last one.

    Args:
        clients: Number of clients.
        participants: Number of clients of an update.
        rule: The rule.
        executor: The executor.
        steps: Number of updates.

    Returns:
        The run.
    """
    return parse_as(
        Study,
        {
            "name": "population",
            "steps": steps,
            "evaluate_every": steps,
            "workers": {"total": clients, "byzantine": clients // 20},
            "schedule": {"name": "sampled", "participants": participants},
            "data": {
                "name": "gaussian_mixture",
                "samples": 60_000,
                "shape": [28, 28],
                "batch_size": 16,
                "partition": {"name": "dirichlet", "alpha": 0.5},
            },
            "model": {"name": "mlp", "hidden": [100]},
            "local": {"steps": 5, "learning_rate": 0.05},
            "worker_momentum": 0.9,
            "rule": rule,
            "attack": "label_flip",
            "executor": executor,
        },
    )


def run(
    clients: int, participants: int, steps: int, repeats: int, path: Path | None, say: Callable[[str], None]
) -> None:
    """Measures all rules and executors.

    Args:
        clients: Number of clients.
        participants: Number of clients of an update.
        steps: Number of updates of a run.
        repeats: Number of runs after the first one.
        path: File for all numbers as JSON; None for none.
        say: Receives the lines of the table.
    """
    compilation.use_disk_cache()
    first = scenario(clients, participants, RULES[0], {"name": "loop"}, steps)
    say(
        f"{clients} clients, {participants} in an update, 5 local steps of batch 16, mlp with "
        f"{message_bits(first.run) // 32} parameters and a momentum for each client, {os.cpu_count()} cores, "
        f"jax {jax.__version__}, {jax.default_backend()}"
    )
    floor = 1 / time_gradients(first, participants)
    say(f"{'rule':9} {'executor':18} {'updates/s':>10} {'clients/s':>10} {'of floor':>9} {'memory GiB':>11}")
    say(f"{'':9} {'local steps alone':18} {floor:10.1f} {floor * participants:10.0f} {1:9.2f}")
    table = []
    for rule in RULES:
        for name, executor in EXECUTORS.items():
            described = scenario(clients, participants, rule, executor, steps)
            seconds: list[float] = []

            def runs(described: Study = described, seconds: list[float] = seconds) -> None:
                with session(described.executor) as execute:
                    for _ in range(repeats + 1):
                        before, after = execute(described.task)
                        seconds.append(after.wall_s - before.wall_s)

            peak = peak_memory(runs)
            # the first run compiles
            rate = steps / statistics.median(seconds[1:])
            table.append(
                {
                    "rule": rule,
                    "executor": name,
                    "updates_per_s": rate,
                    "floor_updates_per_s": floor,
                    # of Ray only this process, which holds no row
                    "process_bytes": peak.total if peak and name == "vectorised" else None,
                }
            )
            memory = f"{peak.total / 2**30:11.2f}" if peak and name == "vectorised" else f"{'-':>11}"
            say(f"{rule:9} {name:18} {rate:10.1f} {rate * participants:10.0f} {rate / floor:9.2f} {memory}")
            if path is not None:  # finished measurements are kept
                write_numbers(path, {"records": table})
