"""The same distribution at every worker."""

import numpy as np

from simulator.partitions.base import Partition, check


def iid() -> Partition:
    """Equal shares drawn at random: every worker's samples follow the same distribution.

    Splits: all samples, shuffled; the workers' numbers of samples differ by at most one
    Source: McMahan et al. 2017, experiments ("IID")

    Raises:
        ValueError: (from the partition) for fewer samples than workers.
    """

    def partition(labels: np.ndarray, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check(labels, workers)
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), workers)]

    return partition
