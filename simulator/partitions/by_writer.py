"""Natural partition (LEAF, Caldas et al. 2018): the samples of an owner stay together."""

import numpy as np

from byzax.options import PartError, checked
from byzax.simulator.partitions.base import Count, Partition, Samples, check_samples, fewer_workers


@checked
def by_writer(*, per_worker: Count | None = None) -> Partition:
    """Deals whole owners (writers, speakers, devices) to the workers: the natural split of the data.

    For data sets that name the owner of each sample, such as femnist, shakespeare and synthetic_alpha_beta.

    Splits: all samples, or those of per_worker owners for each; else the numbers of owners differ by at most one

    Args:
        per_worker: Number of owners of each worker, drawn at random, the others left out. None: all are dealt.

    Returns:
        The partition. It raises PartError for data without owners, or with too few of them.

    Raises:
        OptionError: For `per_worker` out of its range.

    References:
        Caldas et al. 2018, "LEAF: a benchmark for federated settings"
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers)
        if samples.owners is None:
            raise PartError(
                "by_writer needs data that has an owner for each sample, such as femnist, shakespeare or "
                "synthetic_alpha_beta, or arrays with owners: take another partition for this data"
            )
        owners = np.unique(samples.owners)
        needed = workers * (per_worker or 1)
        if len(owners) < needed:
            most, fewest = len(owners) // (per_worker or 1), len(owners) // workers
            ways_out = [fewer_workers(most)] if most else []
            ways_out += [f"per_worker at most {fewest}"] if fewest else []
            raise PartError(
                f"by_writer: {len(owners)} owners of training samples are too few for {workers} workers with at least "
                f"{per_worker or 1} each: {', or '.join(ways_out) or 'take fewer workers, and fewer for each'}"
            )
        chosen = rng.permutation(owners)[: len(owners) if per_worker is None else needed]
        return [np.flatnonzero(np.isin(samples.owners, writers)) for writers in np.array_split(chosen, workers)]

    return partition
