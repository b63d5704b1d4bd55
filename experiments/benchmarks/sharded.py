"""Memory and time of servers with slices of a model that is too large for one machine.

Each server is an actor of Ray, which carries out what a server of the topology `sharded` does: it gets its slices of
the rows, exchanges what the rule measures on whole rows with the others, and makes the step of the optimizer. Rows are
random numbers that another actor makes slice by slice: no process ever has a whole one.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax

from byzax.experiments.writing import write_numbers
from byzax.simulator.slices import Cuts

RULES = ("median", "multi_krum", "geometric_median")
GIB = 2**30


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
    # imports take seconds
    from byzax.simulator.executors.ray.slice_actors import slice_servers

    cuts, table = Cuts(d, servers), []
    say(f"d={d:,}, n={n}, {servers} servers, {os.cpu_count()} cores, jax {jax.__version__}")
    say(f"rows of a server {n * cuts.width * 4 / GIB:.2f} GiB, its slice of the model {cuts.width * 4 / GIB:.2f} GiB")
    say(f"{'rule':18} {'sent KiB':>9} {'rows s':>8} {'update s':>9}  peak of each server, GiB")
    for rule in rules:
        filling, moving, sent, peaks = [], [], 0, []
        with slice_servers(cuts, rule, n, f) as actors:
            for step in range(steps):
                begin = time.perf_counter()
                actors.fill(step)
                filled = time.perf_counter()
                sent, peaks = actors.update()
                filling.append(filled - begin)
                moving.append(time.perf_counter() - filled)
        row = {
            "rule": rule, "d": d, "n": n, "servers": servers, "rows_s": statistics.median(filling),
            "update_s": statistics.median(moving), "sent_bytes": sent, "peak_bytes": peaks,
        }  # fmt: skip
        table.append(row)
        if path is not None:  # finished measurements are kept
            write_numbers(path, {"records": table})
        each = " ".join(f"{peak / GIB:.2f}" for peak in peaks)
        say(f"{rule:18} {sent / 1024:9.1f} {row['rows_s']:8.2f} {row['update_s']:9.2f}  {each}")
