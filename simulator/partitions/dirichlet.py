"""Dirichlet label skew of adjustable strength (Yurochkin et al. 2019)."""

import numpy as np

from byzax.options import checked
from byzax.simulator.partitions.base import (
    Count,
    Partition,
    Positive,
    Samples,
    check_samples,
    distinct_labels,
    max_attempts,
    no_split_error,
)


@checked
def dirichlet(*, alpha: Positive = 0.5, min_partition_size: Count = 1, self_balancing: bool = True) -> Partition:
    """Deals the samples of each label to the workers in shares drawn from a Dirichlet distribution.

    A small alpha gives a worker few labels, a large one approaches equal shares. The names are flwr-datasets'. Draws
    that leave a worker with too few samples are thrown away and drawn again, at most 1,000 times, fewer
    where a draw takes long (more than 300,000 samples).

    Splits: all samples; worker i gets the share p_i of each label's, p ~ Dirichlet(alpha, ..., alpha) for each label

    Args:
        alpha: Concentration, above 0.
        min_partition_size: Number of samples that every worker has at least; 10 in flwr-datasets and the code of
            Yurochkin et al.
        self_balancing: Whether a worker that has its equal share of all samples gets none of the labels dealt after
            that, as in that code; byzfl has no such thing.

    Returns:
        The partition. It raises PartError for too few samples, data without labels (regression), or where no draw
        succeeded.

    Raises:
        OptionError: For an option out of its range.

    References:
        Yurochkin et al., ICML 2019; Hsu, Qi and Brown 2019 (who draw the labels' shares of each worker instead)
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers, min_partition_size)
        labels, distinct = samples.labels, distinct_labels("dirichlet", samples)
        positions = {label: np.flatnonzero(labels == label) for label in distinct}
        attempts = max_attempts(len(labels) + workers * len(distinct))
        for _ in range(attempts):
            dealt: list[tuple[np.ndarray, np.ndarray]] = []
            sizes = np.zeros(workers, int)
            # in random order, since with self_balancing the last labels have fewer workers left to go to
            for label in rng.permutation(distinct):
                members = rng.permutation(positions[label])
                shares = rng.dirichlet(np.full(workers, alpha))
                if self_balancing:
                    open_ = sizes < len(labels) / workers
                    # a tiny alpha can put the whole label on workers that are full: then those with room share it
                    shares = shares * open_ if (shares * open_).sum() > 0 else open_.astype(float)
                cuts = np.rint(np.cumsum(shares / shares.sum())[:-1] * len(members)).astype(int)
                # nothing is cut before it is known that all have enough
                dealt.append((members, cuts))
                sizes += np.diff(cuts, prepend=0, append=len(members))
            if sizes.min() >= min_partition_size:
                pieces = zip(*(np.split(members, cuts) for members, cuts in dealt), strict=True)
                return [np.sort(np.concatenate(part)) for part in pieces]
        raise no_split_error("dirichlet", samples, workers, min_partition_size, alpha, attempts)

    return partition
