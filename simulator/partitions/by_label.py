"""Label skew with a fixed number of labels per worker (after McMahan et al. 2017)."""

import numpy as np

from byzax.options import PartError, checked
from byzax.simulator.partitions.base import Count, Partition, Samples, check_samples, distinct_labels


@checked
def by_label(*, labels: Count = 2) -> Partition:
    """Gives every worker samples of exactly `labels` labels: the "pathological" split.

    Labels are dealt so that the numbers of workers that hold them differ by at most one; a label's samples are shared
    equally by its holders. McMahan et al. cut the sorted samples into shards instead, which gives *at most* so many.

    Splits: all samples, but for labels that no worker holds where workers * labels < number of labels

    Args:
        labels: Number of labels of each worker.

    Returns:
        The partition. It raises PartError for more labels per worker than there are, fewer samples than workers, data
        without labels (regression), or a label with fewer samples than workers that should hold it.

    Raises:
        OptionError: For `labels` out of its range.

    References:
        McMahan et al. 2017, experiments (two labels per client)
    """
    per_worker = labels

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers)
        labels, distinct = samples.labels, distinct_labels("by_label", samples)
        if per_worker > len(distinct):
            raise PartError(f"by_label cannot give {per_worker} labels to each worker: the data has {len(distinct)}")
        held = np.zeros((workers, len(distinct)), bool)
        for worker in range(workers):
            # the labels held least so far, ties in random order: balanced, and never one label twice
            order = rng.permutation(len(distinct))
            held[worker, order[np.argsort(held[:, order].sum(axis=0), kind="stable")][:per_worker]] = True
        parts: list[list[np.ndarray]] = [[] for _ in range(workers)]
        for column, label in enumerate(distinct):
            holders = rng.permutation(np.flatnonzero(held[:, column]))
            members = rng.permutation(np.flatnonzero(labels == label))
            if len(members) < len(holders):
                raise PartError(
                    f"by_label: label {label} has {len(members)} samples for {len(holders)} workers that should hold "
                    f"it: take fewer workers or fewer labels per worker"
                )
            for share, worker in enumerate(holders):
                parts[worker].append(members[share :: len(holders)])
        return [np.sort(np.concatenate(part)) for part in parts]

    return partition
