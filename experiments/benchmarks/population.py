"""Updates per second, and memory, where each update takes a few of many clients.

Data are made (the size of MNIST images), shared unevenly; every client keeps a momentum. As in `training`, a run is
timed several times in one session, and the floor is what the local steps alone take in one thread.

Then a population that is much larger is compared with a small one of as many participants, each in a process of its
own: the seconds until the first update, updates per second, and the memory of the whole process.
"""

import json
import os
import statistics
import subprocess
import sys
import time
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

# Clients and participants of the populations that are compared.
SMALL, LARGE, DRAWN = 1000, 100_000, 100
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


def large_scenario(clients: int, momentum: float, steps: int) -> Study:
    """A run of many clients with two samples each, or of few with more.

    Args:
        clients: Number of clients.
        momentum: Momentum of each client.
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
            "schedule": {"name": "sampled", "participants": DRAWN},
            "data": {"name": "gaussian_mixture", "samples": 200_000, "shape": [8, 8], "batch_size": 16},
            "model": {"name": "mlp", "hidden": [100]},
            "local": {"steps": 2, "learning_rate": 0.05},
            "worker_momentum": momentum,
            "rule": "median",
            "attack": "little",
            "executor": {"name": "vectorised"},
        },
    )


def measure_large(clients: int, momentum: float, steps: int, repeats: int) -> dict[str, Any]:
    """Measures a run of `large_scenario` in this process.

    Args:
        clients: Number of clients.
        momentum: Momentum of each client.
        steps: Number of updates.
        repeats: Number of runs after the first one.

    Returns:
        Seconds until the first update could be made `start_s`; updates per second, and per second of the processor; and
        the peak of the memory of the process in bytes, None where the system is not Linux.
    """
    compilation.use_disk_cache()
    found: dict[str, Any] = {}

    def runs() -> None:
        start, rates, cpu_rates = time.perf_counter(), [], []
        described = large_scenario(clients, momentum, steps)
        with session(described.executor) as execute:
            for i in range(repeats + 1):
                checkpoints = execute(described.task)
                before = next(checkpoints)
                found.setdefault("start_s", time.perf_counter() - start)
                began = time.process_time()
                *_, after = checkpoints
                # the first run compiles
                if i:
                    rates.append(steps / (after.wall_s - before.wall_s))
                    cpu_rates.append(steps / (time.process_time() - began))
        found.update(updates_per_s=statistics.median(rates), updates_per_cpu_s=statistics.median(cpu_rates))

    peak = peak_memory(runs)
    return found | {"process_bytes": peak and peak.total}


def run_large(steps: int, repeats: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Compares a large population with a small one.

    Args:
        steps: Number of updates of a run.
        repeats: Number of runs after the first one.
        say: Receives the lines of the table.

    Returns:
        The numbers of each run.
    """
    say(f"{DRAWN} of all clients in an update, vectorised, each line in a process of its own")
    say(
        f"{'clients':>8} {'momentum':>9} {'start s':>8} {'updates/s':>10} {f'of {SMALL:,}':>9} {'of CPU s':>9} "
        f"{'memory GiB':>11}"
    )
    table: list[dict[str, Any]] = []
    for momentum in (0.0, 0.9):
        small: dict[str, Any] = {}
        for clients in (SMALL, LARGE):
            command = [sys.executable, "-m", __name__, *map(str, (clients, momentum, steps, repeats))]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            small = small or found
            share, cpu_share = (found[key] / small[key] for key in ("updates_per_s", "updates_per_cpu_s"))
            memory = f"{found['process_bytes'] / 2**30:11.2f}" if found["process_bytes"] else f"{'-':>11}"
            say(
                f"{clients:8} {momentum:9} {found['start_s']:8.1f} {found['updates_per_s']:10.1f} {share:9.2f} "
                f"{cpu_share:9.2f} {memory}"
            )
            table.append({"clients": clients, "momentum": momentum, **found})
    return table


def run(
    clients: int, participants: int, steps: int, repeats: int, path: Path | None, say: Callable[[str], None]
) -> None:
    """Measures all rules and executors, then a large population.

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
    populations = run_large(steps, repeats, say)
    if path is not None:
        write_numbers(path, {"records": table, "populations": populations})


if __name__ == "__main__":
    numbers = [float(each) for each in sys.argv[1:]]
    print(json.dumps(measure_large(int(numbers[0]), numbers[1], int(numbers[2]), int(numbers[3]))))
