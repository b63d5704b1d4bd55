"""Unequal numbers of samples."""

import numpy as np

from byzax.simulator.partitions.base import Partition, Samples, attempts, check, no_split


def quantity_skew(*, alpha: float = 0.5, min_partition_size: int = 1) -> Partition:
    """Workers hold different numbers of samples, in shares drawn from a Dirichlet distribution, of one distribution.

    A small alpha gives a few workers nearly everything, a large one approaches equal shares. Draws that leave a worker
    with too few samples are thrown away and drawn again, at most 1,000 times.

    Splits: all samples, shuffled; worker i gets the share p_i, p ~ Dirichlet(alpha, ..., alpha)
    Source: Li, Diao, Chen and He, ICDE 2022, "Federated Learning on Non-IID Data Silos" (quantity skew)

    Args:
        alpha: concentration, above 0.
        min_partition_size: samples that every worker has at least.

    Raises:
        ValueError: for an option out of range; from the partition for too few samples, or when no draw succeeded.
    """
    if not 0 < alpha < np.inf:
        raise ValueError(f"quantity_skew needs alpha > 0, such as 0.5, got {alpha}")
    if min_partition_size < 1:
        raise ValueError(f"quantity_skew needs min_partition_size >= 1, got {min_partition_size}")

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check(samples, workers, min_partition_size)
        count = len(samples.labels)
        shuffled = rng.permutation(count)
        tried = attempts(workers)
        for _ in range(tried):
            cuts = np.rint(np.cumsum(rng.dirichlet(np.full(workers, alpha)))[:-1] * count).astype(int)
            if np.diff(cuts, prepend=0, append=count).min() >= min_partition_size:
                return [np.sort(part) for part in np.split(shuffled, cuts)]
        raise no_split("quantity_skew", samples, workers, min_partition_size, alpha, tried)

    return partition
