"""Quantity skew (Li et al. 2022): unequal numbers of samples of one distribution."""

import numpy as np

from byzax.options import checked
from byzax.simulator.partitions.base import (
    Count,
    Partition,
    Positive,
    Samples,
    check_samples,
    max_attempts,
    no_split_error,
)


@checked
def quantity_skew(*, alpha: Positive = 0.5, min_partition_size: Count = 1) -> Partition:
    """Gives workers different numbers of samples of one distribution, in shares drawn from a Dirichlet distribution.

    A small alpha gives a few workers nearly everything, a large one approaches equal shares. Draws that leave a worker
    with too few samples are thrown away and drawn again, at most 1,000 times.

    Splits: all samples, shuffled; worker i gets the share p_i, p ~ Dirichlet(alpha, ..., alpha)

    Args:
        alpha: Concentration, above 0.
        min_partition_size: Number of samples that every worker has at least.

    Returns:
        The partition. It raises PartError for too few samples, or where no draw succeeded.

    Raises:
        OptionError: For an option out of its range.

    References:
        Li, Diao, Chen and He, ICDE 2022, "Federated Learning on Non-IID Data Silos" (quantity skew)
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers, min_partition_size)
        count = len(samples.labels)
        shuffled = rng.permutation(count)
        attempts = max_attempts(workers)
        for _ in range(attempts):
            cuts = np.rint(np.cumsum(rng.dirichlet(np.full(workers, alpha)))[:-1] * count).astype(int)
            if np.diff(cuts, prepend=0, append=count).min() >= min_partition_size:
                return [np.sort(part) for part in np.split(shuffled, cuts)]
        raise no_split_error("quantity_skew", samples, workers, min_partition_size, alpha, attempts)

    return partition
