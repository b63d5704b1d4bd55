"""One process over many runs: what is kept of each is bounded."""

import gc
from pathlib import Path

import jax
import pytest

from byzax.simulator.compilation import MAX_COMPILED
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
