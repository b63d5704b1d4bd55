"""Pieces of the sorted samples."""

import numpy as np

from byzax.simulator.partitions.base import Partition, Samples, by_value, check


def shards(*, per_worker: int = 2) -> Partition:
    """Samples are sorted by label and cut into equal shards, of which every worker gets a few at random.

    A worker holds about `per_worker` labels, but it may be fewer or more: a shard can lie across the border of two
    labels, and two shards can be of one label. `by_label` gives exactly so many. Values of a regression are sorted too.

    Splits: all samples; the numbers of samples of two shards differ by at most one
    Source: McMahan et al. 2017, experiments ("pathological non-IID": 200 shards of 300 digits, two for each client)

    Args:
        per_worker: shards for each worker.

    Raises:
        ValueError: for per_worker < 1; from the partition for fewer samples than shards.
    """
    if per_worker < 1:
        raise ValueError(f"shards needs per_worker >= 1, got {per_worker}")

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check(samples, workers, per_worker)
        pieces = np.array_split(by_value(samples.labels, rng), workers * per_worker)
        return [
            np.sort(np.concatenate([pieces[piece] for piece in mine]))
            for mine in rng.permutation(len(pieces)).reshape(workers, per_worker)
        ]

    return partition
