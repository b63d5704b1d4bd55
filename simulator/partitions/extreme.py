"""Extreme label skew: the samples sorted by label, one piece for each worker."""

import numpy as np

from byzax.simulator.partitions.base import Partition, Samples, check_samples, shuffle_pieces, sort_by_label


def extreme() -> Partition:
    """Sorts the samples by label and cuts one equal piece for each worker, the most uneven split of labels.

    It is similarity with gamma = 0. Values of a regression are sorted too. The pieces are dealt in random order.

    Splits: all samples; the workers' numbers of samples differ by at most one

    Returns:
        The partition. It raises PartError for fewer samples than workers.

    References:
        Hsu, Qi and Brown 2019 (the limit alpha -> 0); byzfl ("extreme_niid")
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers)
        pieces = shuffle_pieces(np.array_split(sort_by_label(samples.labels, rng), workers), rng)
        return [np.sort(piece) for piece in pieces]

    return partition
