"""Label skew between groups of workers: each group its own labels (He, Karimireddy, Jaggi 2022)."""

import numpy as np

from byzax.options import PartError, checked
from byzax.simulator.partitions.base import Count, Partition, Samples, check_samples, distinct_labels


@checked
def by_group(*, groups: Count = 2) -> Partition:
    """Gives groups of workers labels of their own: the first workers the first labels, and so on.

    Workers, in the order of their numbers, and labels, in their order, are cut into as many runs as there are groups,
    of equal length or one longer. Within a group samples are dealt at random in equal shares. With two groups over the
    graph `dumbbell` each clique has half of the labels, and the bridge is all that joins them. Byzantine workers are
    the first ones by default.

    Splits: all samples; the numbers of samples of two workers of a group differ by at most one

    Args:
        groups: Number of groups.

    Returns:
        The partition. It raises PartError for more groups than workers or labels, a group with fewer samples than
        workers, or data without labels (regression).

    Raises:
        OptionError: For `groups` out of its range.

    References:
        He, Karimireddy and Jaggi 2022, "Byzantine-Robust Decentralized Learning via ClippedGossip" (dumbbell)
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers)
        distinct = distinct_labels("by_group", samples)
        if groups > min(workers, len(distinct)):
            raise PartError(
                f"by_group needs a worker and a label for each group: groups is at most "
                f"{min(workers, len(distinct))} with workers={workers} and labels={len(distinct)}, got {groups}"
            )
        parts: list[np.ndarray] = []
        workers_of = np.array_split(np.arange(workers), groups)
        for members, labels in zip(workers_of, np.array_split(distinct, groups), strict=True):
            mine = rng.permutation(np.flatnonzero(np.isin(samples.labels, labels)))
            if len(mine) < len(members):
                raise PartError(
                    f"by_group: workers {members[0]} to {members[-1]} are a group of {len(members)}, whose labels have "
                    f"{len(mine)} samples: take fewer workers"
                )
            parts += [np.sort(part) for part in np.array_split(mine, len(members))]
        return parts

    return partition
