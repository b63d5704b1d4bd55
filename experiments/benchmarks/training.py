"""Updates per second of the three executors, of two devices, and of byzfl where it is installed.

Data are made (the size of MNIST images): nothing is read, and times do not depend on the values. Each executor runs
every scenario several times in one session, and the median of the later runs counts: compilation and the start of Ray
with its actors are timed apart. "CPU ms" is that of an update in all processes, "actor MB" the memory of the largest
actor. The attack reads no row of the Byzantine workers, so that an update computes the gradients of the honest ones;
its floor is their products at the full speed of a core. Beside it stands what the same gradients take in one thread,
one worker after the other.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from byzax import models as built_in
from byzax.experiments.benchmarks import training_peers
from byzax.experiments.benchmarks.models import SPEED
from byzax.experiments.benchmarks.products import count_products
from byzax.experiments.benchmarks.timing import family
from byzax.experiments.writing import write_numbers
from byzax.simulator import compilation, interrupts
from byzax.simulator.config.base import parse_as
from byzax.simulator.config.executors import devices_of
from byzax.simulator.config.study import Study
from byzax.simulator.executors import session
from byzax.simulator.executors.base import prepare
from byzax.simulator.world import world

RULES = ("average", "median", "trimmed_mean", "krum")
MODELS = {"mlp": {"name": "mlp", "hidden": [100]}, "cnn": {"name": "cnn"}}
# updates of a run, enough that its last evaluation does not count much
STEPS = {"mlp": 200, "cnn": 60}
SHAPE = (28, 28)
EXECUTORS = {
    "loop": {"name": "loop"},
    "vectorised": {"name": "vectorised"},
    "vectorised, two devices": {"name": "vectorised", "mesh": {"workers": 2}},
    "ray, actors: auto": {"name": "ray"},
    "ray, actors: auto, batch": {"name": "ray", "batch": True},
}


class Size(NamedTuple):
    """The size of an update.

    Attributes:
        workers: Number of workers.
        byzantine: Number of Byzantine ones among them.
        batch: Samples of a gradient.
    """

    workers: int = 20
    byzantine: int = 4
    batch: int = 25


def scenario(model: dict[str, Any], rule: str, executor: dict[str, Any], steps: int, size: Size) -> Study:
    """A run without evaluations between the first and the last one.

    Args:
        model: The model.
        rule: The rule.
        executor: The executor.
        steps: Number of updates.
        size: Of an update.

    Returns:
        The run.
    """
    return parse_as(
        Study,
        {
            "name": "training",
            "steps": steps,
            "evaluate_every": steps,
            "workers": {"total": size.workers, "byzantine": size.byzantine},
            "data": {
                "name": "gaussian_mixture",
                "samples": training_peers.SAMPLES,
                "shape": list(SHAPE),
                "batch_size": size.batch,
            },
            "model": model,
            "rule": rule,
            "attack": "little",
            "worker_momentum": 0.9,
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


def products_floor(model: str, size: Size) -> float:
    """Seconds that the products of the honest workers' gradients take at the full speed of a core.

    Args:
        model: Name in `MODELS`.
        size: Of an update.

    Returns:
        Seconds per update.
    """
    options = {key: value for key, value in MODELS[model].items() if key != "name"}
    built = built_in.build(MODELS[model]["name"], SHAPE, 10, **options)
    params = jax.eval_shape(built.init, jax.random.key(0))
    x, y = jax.ShapeDtypeStruct((size.batch, *SHAPE), jnp.float32), jax.ShapeDtypeStruct((size.batch,), jnp.int32)
    return (size.workers - size.byzantine) * count_products(built.loss, params, x, y) / SPEED


def measure(described: Study, runs: int) -> dict[str, float]:
    """Measures the speed of an executor.

    Args:
        described: The run.
        runs: Number of runs after the first one.

    Returns:
        Numbers of a row of the table.
    """
    begin = time.perf_counter()
    with session(described.executor) as execute:
        first, last = execute(described.task)
        first_s = last.wall_s - first.wall_s
        start_s = time.perf_counter() - begin - first_s
        before, seconds = family(), []
        for _ in range(runs):
            first, last = execute(described.task)
            seconds.append(last.wall_s - first.wall_s)
        after = family()
    found = {
        "start_s": start_s,
        "first_s": first_s,
        "updates_per_s": described.run.steps / statistics.median(seconds),
    }
    if before is None or after is None:
        return found
    cpu_ms = 1e3 * (after.cpu_s - before.cpu_s) / (runs * described.run.steps)
    return found | {"cpu_ms": cpu_ms, "actor_mb": after.actor_bytes / 1e6}


def measure_apart(described: Study, runs: int) -> dict[str, float]:
    """The same as `measure` in a process of its own, as JAX has one number of devices in a process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, described, runs).result()


def _measured(
    cases: Mapping[str, Study], model: str, rule: str, size: Size, repeats: int, peers: bool
) -> Iterator[dict[str, Any]]:
    """The measurements of a model and a rule, one after the other: byzfl, the gradients alone, each executor."""
    steps = cases["loop"].run.steps
    if peers and rule in training_peers.RULES:
        for threads in sorted({1, os.cpu_count() or 1}):
            found = training_peers.measure(model, rule, size, steps, repeats, threads)
            yield {"name": f"byzfl, {threads} thread{'s' * (threads > 1)}", "peer": True} | found
    alone = time_gradients(cases["loop"], size.workers - size.byzantine)
    yield {"name": "gradients alone", "updates_per_s": 1 / alone}
    for executor, described in cases.items():
        on_mesh = devices_of(described.executor) > 1
        if on_mesh and jax.default_backend() != "cpu" and len(jax.devices()) == 1:
            continue
        yield {"name": executor} | (measure_apart if on_mesh else measure)(described, repeats)


def run(
    rules: Sequence[str],
    models: Sequence[str],
    size: Size,
    steps: int | None,
    repeats: int,
    peers: bool,
    path: Path | None,
    say: Callable[[str], None],
) -> None:
    """Measures all executors.

    Args:
        rules: The rules.
        models: Names in `MODELS`.
        size: Of an update.
        steps: Number of updates of a run; None for `STEPS`.
        repeats: Number of runs after the first one.
        peers: Whether byzfl is measured, with one thread and with one for each core.
        path: File for all numbers as JSON; None for none.
        say: Receives the lines of the table.
    """
    cases = {
        (model, rule): {
            executor: scenario(MODELS[model], rule, options, steps or STEPS[model], size)
            for executor, options in EXECUTORS.items()
        }
        for model in models
        for rule in rules
    }  # mistakes are reported before the first measurement
    compilation.use_disk_cache()
    say(
        f"{size.workers} workers, {size.byzantine} of them Byzantine (little), batch {size.batch}; "
        f"{os.cpu_count()} cores, jax {jax.__version__}, {jax.default_backend()}; floor at {SPEED / 1e9:.0f} GFLOP/s"
    )
    say(
        f"{'model':6} {'rule':12} {'executor':26} {'updates/s':>10} {'of floor':>9} {'x byzfl':>8} {'x loop':>7} "
        f"{'start s':>8} {'first run s':>12} {'CPU ms':>7} {'actor MB':>9}"
    )
    table = []
    for (model, rule), described in cases.items():
        floor = 1 / products_floor(model, size)
        peer = loop = 0.0
        for row in _measured(described, model, rule, size, repeats, peers):
            start = f"{model:6} {rule:12} {row['name']:26}"
            if "failed" in row:
                say(f"{start} {row['failed']}")
                continue
            rate = row["updates_per_s"]
            if row.pop("peer", False):
                peer = max(peer, rate)
            against = f"{rate / peer:8.2f}" if peer else f"{'':8}"
            times = ""
            if "start_s" in row:
                loop = rate if row["name"] == "loop" else loop
                times = f" {rate / loop:7.2f} {row['start_s']:8.1f} {row['first_s']:12.1f}"
            if "cpu_ms" in row:
                times += f" {row['cpu_ms']:7.1f}"
            if row.get("actor_mb"):
                times += f" {row['actor_mb']:9.0f}"
            say(f"{start} {rate:10.1f} {rate / floor:9.2f} {against}{times}".rstrip())
            table.append({"model": model, "rule": rule, **row, "floor_updates_per_s": floor})
            if path is not None:  # finished measurements are kept
                write_numbers(path, {"records": table})
