"""What a run works on: who holds which samples, and which of them are looked at."""

import numpy as np
import pytest

from simulator.keys import Purpose, generator
from simulator.world import TRAIN_EVALUATED, share_out, stack, world
from tests.simulator.conftest import small

FEW_LABELS = {"name": "digits", "batch_size": 8, "partition": {"name": "by_label", "labels": 2}}


def evaluated(scenario, seed):
    return np.asarray(world(scenario, seed).train).tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_training_loss_is_measured_on_samples_that_some_worker_holds(seed):
    scenario = small(data=FEW_LABELS, workers={"total": 3, "byzantine": 0})
    parts, shares = share_out(scenario.data, 3, seed)
    held = np.concatenate(shares)
    # six of ten labels: otherwise there would be nothing to see
    assert len(held) < 0.8 * len(parts.train)
    assert set(evaluated(scenario, seed)) == set(held.tolist())
    counts = np.unique_counts(evaluated(scenario, seed)).counts
    assert counts.max() - counts.min() <= 1


def test_seeds_that_leave_different_samples_to_nobody_can_be_run_together():
    scenario = small(data=FEW_LABELS, workers={"total": 3, "byzantine": 0})
    worlds = [world(scenario, seed) for seed in range(3)]
    assert len({len(np.concatenate(share_out(scenario.data, 3, seed)[1])) for seed in range(3)}) > 1
    stacked = stack(worlds)
    for seed, each in enumerate(worlds):
        assert np.array_equal(stacked.train[seed], each.train)


@pytest.mark.parametrize("samples", [1000, 5000])
def test_where_every_sample_is_held_each_is_looked_at_once_up_to_the_limit(samples):
    scenario = small(data={"name": "gaussian_mixture", "samples": samples, "batch_size": 8})
    parts, _ = share_out(scenario.data, scenario.workers.total, 0)
    shuffled = generator(0, Purpose.EVALUATE).permutation(parts.train)
    assert evaluated(scenario, 0) == shuffled[:TRAIN_EVALUATED].tolist()
