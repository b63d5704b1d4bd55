"""Frequent and rare labels."""

from typing import Literal

import numpy as np

from byzax.simulator.partitions.base import Partition, Samples, by_value, check, dealt, known_labels, rounded_down


def long_tail(*, gamma: float = 0.5, deal: Literal["iid", "sorted"] = "iid") -> Partition:
    """Label i keeps the share gamma^i of its samples, from frequent to rare; what is left is dealt iid or sorted.

    Validation and test samples stay as they are, where the paper's code makes those of the test rare too: rare labels
    then count as much in the accuracy as frequent ones.

    Splits: floor(gamma^i N_i) samples of the i-th label, i = 0, 1, ...; the others are left to nobody
    Source: Karimireddy, He and Jaggi, ICLR 2022, experiments (long tail, gamma 0.5 to the power i; iid and sorted)

    Args:
        gamma: share that the next label keeps of what the one before it keeps, in (0, 1]; 1 keeps all.
        deal: "iid" in equal shares at random, "sorted" by label in equal pieces, dealt in random order.

    Raises:
        ValueError: for an option out of range; from the partition for fewer samples left than workers, or data without
            labels (regression).
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"long_tail needs 0 < gamma <= 1, such as 0.5, got {gamma}")
    if deal not in ("iid", "sorted"):
        raise ValueError(f'long_tail deals "iid" or "sorted", got {deal!r}')

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check(samples, workers)
        kept = []
        for i, label in enumerate(known_labels("long_tail", samples)):
            members = rng.permutation(np.flatnonzero(samples.labels == label))
            kept.append(members[: rounded_down(gamma**i, len(members))])
        left = np.concatenate(kept)
        if len(left) < workers:
            raise ValueError(
                f"long_tail: gamma={gamma} leaves {len(left)} of {len(samples.labels)} training samples, too few for "
                f"{workers} workers: raise gamma or take fewer workers"
            )
        order = left[by_value(samples.labels[left], rng)] if deal == "sorted" else rng.permutation(left)
        return [np.sort(piece) for piece in dealt(np.array_split(order, workers), rng)]

    return partition
