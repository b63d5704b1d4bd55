"""The same distribution at every worker."""

import numpy as np

from byzax.simulator.partitions.base import Partition, Samples, check


def iid() -> Partition:
    """Equal shares drawn at random: every worker's samples follow the same distribution.

    Splits: all samples, shuffled; the workers' numbers of samples differ by at most one
    Source: McMahan et al. 2017, experiments ("IID")

    Raises:
        ValueError: (from the partition) for fewer samples than workers.
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check(samples, workers)
        return [np.sort(part) for part in np.array_split(rng.permutation(len(samples.labels)), workers)]

    return partition
