"""Updates per second, and bits, of topologies beside one server.

Runs train an mlp on digits. Each executor runs every topology in turn, several times in one session; the median of the
runs after the first counts. The floor is what the gradients alone take in one thread, one worker after the other.
"""

import os
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from byzax.experiments.benchmarks.training import time_gradients
from byzax.experiments.writing import write_numbers
from byzax.simulator import compilation
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.study import Study
from byzax.simulator.executors import session
from byzax.simulator.executors.base import plan
from byzax.simulator.executors.ledger import traffic

WORKERS = 32
ONE_SERVER = "one server"
EXECUTORS = ("loop", "vectorised", "ray")
TOPOLOGIES: dict[str, Any] = {
    ONE_SERVER: "parameter_server",
    "guanyu, 6 servers": {"name": "guanyu", "servers": 6, "byzantine_servers": 1},
    **{
        f"sharded, {servers} server{'s' * (servers > 1)}": {"name": "sharded", "servers": servers}
        for servers in (1, 2, 4)
    },
    "gossip, ring": {"name": "gossip", "graph": "ring", "byzantine_neighbours": 1},
    "gossip, complete": {"name": "gossip", "graph": "complete"},
    "all-gather": "all_gather",
    "all-reduce, ring": "all_reduce",
}


def scenario(topology: Any, executor: str, steps: int) -> Study:
    """A run without evaluations between the first and the last one.

    Args:
        topology: The topology.
        executor: Name of the executor.
        steps: Number of updates.

    Returns:
        The run.
    """
    return parse_as(
        Study,
        {
            "name": "topologies",
            "steps": steps,
            "evaluate_every": steps,
            "workers": {"total": WORKERS, "byzantine": 2},
            "data": {"name": "digits", "batch_size": 32},
            "model": {"name": "mlp", "hidden": [100]},
            # rows that are summed up on their way leave no other rule
            "rule": "average" if topology == "all_reduce" else "median",
            "attack": "sign_flip",
            "topology": topology,
            "executor": executor,
        },
    )


def run(steps: int, repeats: int, path: Path | None, say: Callable[[str], None]) -> None:
    """Measures all topologies.

    Args:
        steps: Number of updates of a run.
        repeats: Number of runs after the first one.
        path: File for all numbers as JSON; None for none.
        say: Receives the lines of the table.
    """
    compilation.use_disk_cache()
    floor = 1 / time_gradients(scenario(TOPOLOGIES[ONE_SERVER], "loop", steps), WORKERS)
    say(f"{WORKERS} workers, {os.cpu_count()} cores, jax {jax.__version__}, {jax.default_backend()}")
    say(f"gradients alone (floor): {floor:.1f} updates per second")
    say(f"{'executor':11} {'topology':22} {'updates/s':>10} {'of floor':>9} {'of one server':>14} {'bits':>12}")
    table = []
    for executor in EXECUTORS:
        described = {name: scenario(topology, executor, steps) for name, topology in TOPOLOGIES.items()}
        seconds: dict[str, list[float]] = {name: [] for name in TOPOLOGIES}
        with ExitStack() as stack:
            execute = stack.enter_context(session(next(iter(described.values())).executor))
            for _ in range(repeats + 1):
                for name, each in described.items():
                    first, *_, last = execute(each.task)
                    seconds[name].append(last.wall_s - first.wall_s)
        rates = {name: steps / statistics.median(each[1:]) for name, each in seconds.items()}
        for name, each in described.items():
            sent = traffic(each.run, plan(each.run))
            bits = float(sent.bits_up[-1] + sent.bits_down[-1] + sent.bits_peer[-1]) / steps
            row = {
                "executor": executor,
                "topology": name,
                "updates_per_s": rates[name],
                "of_floor": rates[name] / floor,
                "of_one_server": rates[name] / rates[ONE_SERVER],
                "bits_per_update": bits,
            }
            table.append(row)
            if path is not None:  # finished measurements are kept
                write_numbers(path, {"records": table})
            numbers = f"{rates[name]:10.1f} {row['of_floor']:9.3f} {row['of_one_server']:14.3f} {bits:12.3g}"
            say(f"{executor:11} {name:22} {numbers}")
