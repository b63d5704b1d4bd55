"""Memory: what a process keeps of each of many runs is bounded, and so is what a planned row takes."""

import gc
import tracemalloc
from pathlib import Path

import jax
import pytest

from byzax.simulator.compilation import MAX_COMPILED
from byzax.simulator.executors.base import network_of, plan, prepare
from byzax.simulator.executors.waves import held_rows
from tests.simulator.conftest import run, small


def maps():
    return Path("/proc/self/maps").read_text().count("\n")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux alone tells")
@pytest.mark.parametrize("executor", ["loop", "vectorised"])
def test_a_sweep_of_rates_keeps_the_compiled_functions_of_the_last_runs_alone(executor):
    # compiled functions are what a run leaves: some megabytes, and a hundred memory maps
    jax.clear_caches()
    taken = []
    for i in range(2 * MAX_COMPILED):
        run(small(optimizer={"name": "sgd", "learning_rate": 0.1 + 0.001 * i}, executor=executor, steps=2))
        gc.collect()
        taken.append(maps())
    first, then = taken[MAX_COMPILED - 1] - taken[0], taken[-1] - taken[MAX_COMPILED - 1]
    assert first > 20 * MAX_COMPILED
    assert then < 0.1 * first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schedule", "workers", "updates", "most"),
    [
        # all in blocks, but for the timeline itself, of 24 bytes: 10^8 jobs take 2.6 GB
        ("synchronous", 1000, 5000, 40),
        ("synchronous", 20, 6000, 100),
        ({"name": "synchronous", "quorum": 15}, 20, 6000, 100),
        ({"name": "sampled", "participants": 10}, 20, 6000, 100),
        ({"name": "basgd", "buckets": 6}, 20, 6000, 100),
        ({"name": "asynchronous", "apply": "buffer", "rows": 10}, 20, 6000, 100),
        # an update for every row
        ({"name": "asynchronous", "apply": "table"}, 20, 150_000, 100),
        ({"name": "asynchronous", "apply": "each"}, 20, 150_000, 100),
        ({"name": "stale_synchronous", "apply": "table"}, 20, 150_000, 100),
    ],
    ids=str,
)
def test_a_planned_row_takes_few_bytes_while_a_run_is_prepared(schedule, workers, updates, most):
    latency = {"latency": "exponential"} if workers == 20 else {}
    of_run = small(
        schedule=schedule, workers={"total": workers, "byzantine": 2}, steps=updates, **latency
    ).task.run  # fmt: skip
    # what does not grow with the rows
    network_of(of_run.replace(steps=2), prepare(of_run.replace(steps=2)))
    plan.cache_clear()
    tracemalloc.start()
    prepared = prepare(of_run)
    network, _ = network_of(of_run, prepared)
    held_rows(network.steps, prepared.timeline, workers)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    rows = len(prepared.timeline.rows.workers) + len(prepared.timeline.unused.workers)
    assert rows > 50_000
    assert peak < most * rows
