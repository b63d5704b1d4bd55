"""Memory and time of servers with slices of a model that is too large for one machine.

Each server is an actor of Ray, which carries out what a server of the topology `sharded` does: it gets its slices of
the rows, exchanges what the rule measures on whole rows with the others, and makes the step of the optimizer. Rows are
random numbers that another actor makes slice by slice: no process ever has a whole one.
"""

import os
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from byzax import aggregators
from byzax.experiments.writing import write_numbers
from byzax.simulator.slices import Cuts

RULES = ("median", "multi_krum", "geometric_median")
GIB = 2**30


class SliceServer:
    """A server: its slices of the model, of the rows of an update, and of the states of rule and optimizer."""

    def __init__(self, cuts: Cuts, server: int, rule: str, n: int, f: int) -> None:
        """Begins with a model of zeros.

        Args:
            cuts: The slices.
            server: Number of the server.
            rule: Name of the rule.
            n: Number of rows.
            f: Number of rows that may be Byzantine.
        """
        import jax.numpy as jnp
        import optax

        from byzax.aggregators.kernels.sharding import part_of_next, result_of

        form, where = aggregators.build(rule, n, f).sharded, cuts.slice(server)
        assert form is not None
        optimizer, context = optax.sgd(0.1, momentum=0.9), aggregators.Context(jax.random.key(0))

        @jax.jit
        def part(rows: Any, state: Any, heard: Any) -> Any:
            return part_of_next(form.steps(rows, state, context, where), heard)

        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def move(model: Any, optimizer_state: Any, state: Any, rows: Any, heard: Any) -> Any:
            aggregate, state, _ = result_of(form.steps(rows, state, context, where), heard)
            change, optimizer_state = optimizer.update(aggregate, optimizer_state, model)
            return optax.apply_updates(model, change), optimizer_state, state

        self.part, self.move = part, move
        self.rows = np.zeros((n, cuts.width), np.float32)
        model = jnp.zeros(cuts.width)
        self.states = model, optimizer.init(model), form.init(where, cuts.width)

    def take(self, i: int, row: np.ndarray) -> None:
        """Takes the slice of a row."""
        self.rows[i, : len(row)] = row

    def measure(self, *heard: np.ndarray) -> np.ndarray:
        """The numbers of the next exchange, after those of all servers in the exchanges before."""
        return np.asarray(self.part(self.rows, self.states[2], list(heard)))

    def update(self, *heard: np.ndarray) -> float:
        """Makes the step of the optimizer. Gives the peak of memory of this process, in bytes."""
        self.states = jax.block_until_ready(self.move(*self.states, self.rows, list(heard)))
        # in KiB on Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


class RowMaker:
    """All workers: makes their rows."""

    def make(self, seed: int, worker: int, server: int, size: int) -> np.ndarray:
        """The slice of a row: random numbers `[size]`."""
        return np.random.default_rng([seed, worker, server]).random(size, np.float32)


def run(
    d: int, n: int, f: int, servers: int, steps: int, rules: list[str], path: Path | None, say: Callable[[str], None]
) -> None:
    """Measures the servers.

    Args:
        d: Number of parameters.
        n: Number of rows of an update.
        f: Number of rows that may be Byzantine.
        servers: Number of servers.
        steps: Number of updates.
        rules: Names of rules.
        path: File for all numbers as JSON; None for none.
        say: Receives the lines of the table.
    """
    import ray

    cuts, table = Cuts(d, servers), []
    say(f"d={d:,}, n={n}, {servers} servers, {os.cpu_count()} cores, jax {jax.__version__}")
    say(f"rows of a server {n * cuts.width * 4 / GIB:.2f} GiB, its slice of the model {cuts.width * 4 / GIB:.2f} GiB")
    say(f"{'rule':18} {'exchanged KiB':>14} {'rows s':>8} {'update s':>9} {'peak GiB per server':>20}")
    for rule in rules:
        # one slice of a row for each server is on its way at a time
        store = max(2 * servers * cuts.width * 4, 100 * 2**20)
        ray.init(address="local", include_dashboard=False, object_store_memory=store, log_to_driver=False)
        try:
            workers: Any = ray.remote(num_cpus=0)(RowMaker).remote()
            actor = ray.remote(num_cpus=0)(SliceServer)
            actors: list[Any] = [actor.remote(cuts, s, rule, n, f) for s in range(servers)]
            form = aggregators.build(rule, n, f).sharded
            assert form is not None
            taking, moving, peaks, exchanged = [], [], [], 0
            for step in range(steps):
                begin = time.perf_counter()
                for i in range(n):
                    slices = [workers.make.remote(step, i, s, cuts.slice(s).size) for s in range(servers)]
                    ray.get([each.take.remote(i, row) for each, row in zip(actors, slices, strict=True)])
                taking.append(time.perf_counter() - begin)
                begin, heard = time.perf_counter(), []
                for _ in range(form.exchanges):
                    heard.append(np.stack(ray.get([each.measure.remote(*heard) for each in actors])))
                peaks = ray.get([each.update.remote(*heard) for each in actors])
                moving.append(time.perf_counter() - begin)
                exchanged = sum(each.nbytes for each in heard)
        finally:
            ray.shutdown()
        row = {
            "rule": rule, "d": d, "n": n, "servers": servers, "rows_s": statistics.median(taking),
            "update_s": statistics.median(moving), "exchanged_bytes": exchanged, "peak_bytes": peaks,
        }  # fmt: skip
        table.append(row)
        if path is not None:  # finished measurements are kept
            write_numbers(path, {"records": table})
        most = " ".join(f"{peak / GIB:.2f}" for peak in peaks)
        say(f"{rule:18} {exchanged / 1024:14.1f} {row['rows_s']:8.2f} {row['update_s']:9.2f} {most:>20}")
