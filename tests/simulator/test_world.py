"""The world of a run: the samples of each worker, and those that are evaluated."""

import re

import numpy as np
import pytest

from byzax.simulator.data import Dataset
from byzax.simulator.keys import Purpose, generator
from byzax.simulator.world import TRAIN_EVALUATED, load, share_out, stack, world
from tests.simulator.conftest import at, small

FEW_LABELS = {"name": "digits", "batch_size": 8, "partition": {"name": "by_label", "labels": 2}}


def evaluated(scenario, seed):
    return np.asarray(world(at(scenario, seed)).train).tolist()


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
    worlds = [world(at(scenario, seed)) for seed in range(3)]
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


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"y": np.array([1, 2, 3], np.int32)},
            "labels in 0..2 for classes=3, got 1 to 3",
        ),
        ({"y": np.array([0, -1, 2], np.int32)}, "got -1 to 2"),
        ({"y": np.array([0, 1, 2], np.float32)}, "labels y int32 [N]"),
        ({"y": np.array([0, 1], np.int32)}, "3 samples and 2"),
        ({"owners": np.array([0], np.int32)}, "owners int32 [N=3]"),
    ],
)
def test_a_data_set_whose_labels_do_not_fit_is_refused(changes, said):
    made = Dataset(np.zeros((3, 2), np.float32), np.array([0, 1, 2], np.int32), 3)._replace(**changes)
    source = small(data={"name": lambda: made, "batch_size": 7}).data
    with pytest.raises(ValueError, match=re.escape(said)):
        load(source)
