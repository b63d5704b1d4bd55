"""Long-tailed labels (Karimireddy et al. 2022): some labels become rare."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from byzax.options import PartError, checked
from byzax.simulator.partitions.base import (
    Partition,
    Samples,
    check_samples,
    distinct_labels,
    floor_share,
    shuffle_pieces,
    sort_by_label,
)


@checked
def long_tail(*, gamma: Annotated[float, Field(gt=0, le=1)] = 0.5, deal: Literal["iid", "sorted"] = "iid") -> Partition:
    """Keeps the share gamma^i of the samples of label i, from frequent to rare, and deals these iid or sorted.

    Validation and test samples stay as they are, where the paper's code makes those of the test rare too: rare labels
    then count as much in the accuracy as frequent ones.

    Splits: floor(gamma^i N_i) samples of the i-th label, i = 0, 1, ...; no worker gets the others

    Args:
        gamma: Share that the next label keeps of what the one before it keeps, in (0, 1]; 1 keeps all.
        deal: "iid" in equal shares at random, "sorted" by label in equal pieces, dealt in random order.

    Returns:
        The partition. It raises PartError where fewer samples are left than there are workers, or for data without
        labels (regression).

    Raises:
        OptionError: For an option out of its range.

    References:
        Karimireddy, He and Jaggi, ICLR 2022, experiments (long tail, gamma 0.5 to the power i; iid and sorted)
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers)
        kept = []
        for i, label in enumerate(distinct_labels("long_tail", samples)):
            members = rng.permutation(np.flatnonzero(samples.labels == label))
            kept.append(members[: floor_share(gamma**i, len(members))])
        left = np.concatenate(kept)
        if len(left) < workers:
            raise PartError(
                f"long_tail: gamma={gamma} leaves {len(left)} of {len(samples.labels)} training samples, too few for "
                f"{workers} workers: raise gamma or take fewer workers"
            )
        order = left[sort_by_label(samples.labels[left], rng)] if deal == "sorted" else rng.permutation(left)
        return [np.sort(piece) for piece in shuffle_pieces(np.array_split(order, workers), rng)]

    return partition
