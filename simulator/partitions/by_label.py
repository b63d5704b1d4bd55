"""A few labels per worker."""

import numpy as np

from byzax.simulator.partitions.base import Partition, Samples, check, known_labels


def by_label(*, labels: int = 2) -> Partition:
    """Every worker holds samples of exactly `labels` labels: the "pathological" split.

    Labels are dealt so that the numbers of workers that hold them differ by at most one; a label's samples are shared
    equally by its holders. McMahan et al. cut the sorted samples into shards instead, which gives *at most* so many.

    Splits: all samples, but for labels that nobody holds where workers * labels < number of labels
    Source: McMahan et al. 2017, experiments (two labels per client)

    Args:
        labels: number of labels per worker.

    Raises:
        ValueError: for labels < 1; from the partition for more labels than there are, fewer samples than workers, data
            without labels (regression), or a label with fewer samples than workers that should hold it.
    """
    if labels < 1:
        raise ValueError(f"by_label needs labels >= 1, got {labels}")
    per_worker = labels

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check(samples, workers)
        labels, known = samples.labels, known_labels("by_label", samples)
        if per_worker > len(known):
            raise ValueError(f"by_label cannot give {per_worker} labels to each worker: the data has {len(known)}")
        held = np.zeros((workers, len(known)), bool)
        for worker in range(workers):
            # the labels held least so far, ties in random order: balanced, and never one label twice
            order = rng.permutation(len(known))
            held[worker, order[np.argsort(held[:, order].sum(axis=0), kind="stable")][:per_worker]] = True
        parts: list[list[np.ndarray]] = [[] for _ in range(workers)]
        for column, label in enumerate(known):
            holders = rng.permutation(np.flatnonzero(held[:, column]))
            members = rng.permutation(np.flatnonzero(labels == label))
            if len(members) < len(holders):
                raise ValueError(
                    f"by_label: label {label} has {len(members)} samples for {len(holders)} workers that should hold "
                    f"it: take fewer workers or fewer labels per worker"
                )
            for share, worker in enumerate(holders):
                parts[worker].append(members[share :: len(holders)])
        return [np.sort(np.concatenate(part)) for part in parts]

    return partition
