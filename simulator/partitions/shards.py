"""Shards of the sorted samples (McMahan et al. 2017)."""

import numpy as np

from byzax.options import checked
from byzax.simulator.partitions.base import Count, Partition, Samples, check_samples, sort_by_label


@checked
def shards(*, per_worker: Count = 2) -> Partition:
    """Sorts the samples by label, cuts them into equal shards and gives every worker a few of these at random.

    A worker holds about `per_worker` labels, but it may be fewer or more: a shard can lie across the border of two
    labels, and two shards can be of one label. `by_label` gives exactly so many. Values of a regression are sorted too.

    Splits: all samples; the numbers of samples of two shards differ by at most one

    Args:
        per_worker: Number of shards of each worker.

    Returns:
        The partition. It raises PartError for fewer samples than shards.

    Raises:
        OptionError: For `per_worker` out of its range.

    References:
        McMahan et al. 2017, experiments ("pathological non-IID": 200 shards of 300 digits, two for each client)
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers, per_worker)
        pieces = np.array_split(sort_by_label(samples.labels, rng), workers * per_worker)
        return [
            np.sort(np.concatenate([pieces[piece] for piece in numbers]))
            for numbers in rng.permutation(len(pieces)).reshape(workers, per_worker)
        ]

    return partition
