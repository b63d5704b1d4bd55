"""How long each aggregation rule takes, beside the time to copy its matrix in the same run.

python -m experiments.benchmarks.rules [--json PATH] [--sizes 25,5,100000 50,10,1000000] [--repeats 7]
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from math import comb
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import aggregators
from aggregators.kernels.columns import mean_around_median
from aggregators.kernels.distances import pairwise
from aggregators.smea import MOST_SUBSETS

SIZES = ["25,5,100000", "50,10,1000000"]
RULES = (
    *("average", "sign_majority", "median", "trimmed_mean", "mean_around_median", "phocas"),
    *("cge", "monna", "aksel", "norm_clipping", "centered_clipping"),
    *("median_of_means", "geometric_median", "krum", "multi_krum", "brute", "smea", "bulyan"),
)


def seconds(function: Callable, *arguments, repeats: int) -> dict[str, float]:
    """Seconds of the first call (compilation and all), then the median and the best of `repeats` calls."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        taken.append(time.perf_counter() - start)
    return {"time_s": statistics.median(taken[1:]), "best_s": min(taken[1:]), "first_call_s": taken[0]}


def numpy_krum(rows: np.ndarray, f: int) -> np.ndarray:
    """Krum as it is usually written, one row of distances at a time."""
    squared = np.stack([((rows - row) ** 2).sum(axis=1) for row in rows])
    np.fill_diagonal(squared, np.inf)
    return rows[np.sort(squared, axis=1)[:, : len(rows) - f - 2].sum(axis=1).argmin()]


def measure(n: int, f: int, d: int, repeats: int) -> list[dict]:
    """Times each rule and the copy of its matrix (before and after the rules) at one size; one record each."""
    host = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    rows = jnp.asarray(host)
    in_numpy = {
        "average": lambda: host.mean(axis=0),
        "median": lambda: np.median(host, axis=0),
        "krum": lambda: numpy_krum(host, f),
    }
    copy = jax.jit(lambda rows: rows.copy())
    records = []

    def record(name: str, function: Callable, *arguments) -> None:
        records.append({"name": name, **seconds(function, *arguments, repeats=repeats)})

    record("copy", copy, rows)
    for name in RULES:
        if name == "smea" and comb(n, f) > MOST_SUBSETS:
            continue
        rule = aggregators.build(name, n, f)
        record(name, rule.apply, rows, rule.init(d))
        if name in in_numpy:
            records[-1]["numpy_s"] = seconds(in_numpy[name], repeats=2)["best_s"]
    record("  distances", jax.jit(pairwise), rows)
    second_stage = jax.jit(lambda selected: mean_around_median(selected, 2 * f, "lower"))
    record("  bulyan stage 2", second_stage, rows[: n - 2 * f])
    record("copy again", copy, rows)
    # Best against best: on a shared machine a median of milliseconds measures the neighbours.
    copy_s = min(r["best_s"] for r in records if r["name"].startswith("copy"))
    return [{"n": n, "f": f, "d": d, "copies": r["best_s"] / copy_s, **r} for r in records]


def table(records: list[dict]) -> str:
    """The records of one size as text, one line each."""
    lines = ["rule                 median ms   best ms  best / copy  first call s  numpy / ours"]
    for r in records:
        numpy = f"{r['numpy_s'] / r['best_s']:13.1f}" if "numpy_s" in r else ""
        times = f"{1000 * r['time_s']:10.2f} {1000 * r['best_s']:9.2f}"
        lines.append(f"{r['name']:19} {times} {r['copies']:12.2f} {r['first_call_s']:13.2f} {numpy}")
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Prints a table for each size and, with --json, writes all numbers to a file."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.rules", description=measure.__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the numbers here")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="N,F,D", help="rows, Byzantine rows, parameters")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls, of which the median counts")
    options = parser.parse_args(arguments)

    device = jax.devices()[0]
    about = {"jax": jax.__version__, "device": device.device_kind, "system": platform.platform(terse=True)}
    print(" ".join(f"{key}={value}" for key, value in about.items()))
    records = []
    for size in options.sizes:
        n, f, d = (int(part) for part in size.split(","))
        print(f"\nn={n} f={f} d={d:,}", flush=True)
        records += (fresh := measure(n, f, d, options.repeats))
        print(table(fresh), flush=True)
    if options.json:
        options.json.write_text(json.dumps({**about, "records": records}, indent=2) + "\n")


if __name__ == "__main__":
    main()
