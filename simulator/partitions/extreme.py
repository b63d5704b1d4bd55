"""Sorted samples."""

import numpy as np

from byzax.simulator.partitions.base import Partition, Samples, by_value, check, dealt


def extreme() -> Partition:
    """Samples are sorted by label and cut into one equal piece for each worker, the most uneven split of labels.

    As similarity with gamma = 0. Values of a regression are sorted too. The pieces are dealt in random order.

    Splits: all samples; the workers' numbers of samples differ by at most one
    Source: Hsu, Qi and Brown 2019 (the limit alpha -> 0); byzfl ("extreme_niid")

    Raises:
        ValueError: (from the partition) for fewer samples than workers.
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check(samples, workers)
        pieces = dealt(np.array_split(by_value(samples.labels, rng), workers), rng)
        return [np.sort(piece) for piece in pieces]

    return partition
