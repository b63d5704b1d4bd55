"""Samples stay with whom they come from."""

import numpy as np

from byzax.simulator.partitions.base import Partition, Samples, check, fewer_workers


def by_writer(*, per_worker: int | None = None) -> Partition:
    """Whole owners (writers, speakers, devices) are dealt to the workers: the split that nature made.

    For data that says whose each sample is, such as femnist, shakespeare and synthetic_alpha_beta.

    Splits: all samples, or those of per_worker owners for each; else the numbers of owners differ by at most one
    Source: Caldas et al. 2018, "LEAF: a benchmark for federated settings"

    Args:
        per_worker: owners of each worker, drawn at random, the others left out; None deals all of them.

    Raises:
        ValueError: for per_worker < 1; from the partition for data without owners, or too few owners.
    """
    if per_worker is not None and per_worker < 1:
        raise ValueError(f"by_writer needs per_worker >= 1, or null for all owners, got {per_worker}")

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check(samples, workers)
        if samples.owners is None:
            raise ValueError(
                "by_writer needs data that says whose each sample is, such as femnist, shakespeare or "
                "synthetic_alpha_beta, or arrays with owners: take another partition for this data"
            )
        known = np.unique(samples.owners)
        needed = workers * (per_worker or 1)
        if len(known) < needed:
            most, fewest = len(known) // (per_worker or 1), len(known) // workers
            ways_out = [fewer_workers(most)] if most else []
            ways_out += [f"per_worker at most {fewest}"] if fewest else []
            raise ValueError(
                f"by_writer: {len(known)} owners of training samples are too few for {workers} workers with at least "
                f"{per_worker or 1} each: {', or '.join(ways_out) or 'take fewer workers, and fewer for each'}"
            )
        chosen = rng.permutation(known)[: len(known) if per_worker is None else needed]
        return [np.flatnonzero(np.isin(samples.owners, mine)) for mine in np.array_split(chosen, workers)]

    return partition
