"""IID partition: equal shares drawn at random."""

import numpy as np

from byzax.simulator.partitions.base import Partition, Samples, check_samples


def iid() -> Partition:
    """Deals the samples at random in equal shares: every worker's samples follow the same distribution.

    Splits: all samples, shuffled; the workers' numbers of samples differ by at most one

    Returns:
        The partition. It raises PartError for fewer samples than workers.

    References:
        McMahan et al. 2017, experiments ("IID")
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers)
        return [np.sort(part) for part in np.array_split(rng.permutation(len(samples.labels)), workers)]

    return partition
