"""A part that all share, a part that is sorted."""

import numpy as np

from byzax.simulator.partitions.base import Partition, Samples, by_value, check, dealt, rounded_down


def similarity(*, gamma: float = 0.5) -> Partition:
    """A share gamma of the samples is dealt at random, the rest sorted by label: gamma-similarity.

    With gamma = 1 it is iid, with gamma = 0 extreme. Values of a regression are sorted too. The sorted pieces are dealt
    in random order.

    Splits: all samples; floor(gamma N) at random in equal shares, the others sorted in equal pieces
    Source: Karimireddy et al., ICML 2020, "SCAFFOLD" (similarity s %); byzfl ("gamma_similarity_niid")

    Args:
        gamma: share of the samples that is dealt at random, in [0, 1].

    Raises:
        ValueError: for gamma outside [0, 1]; from the partition for fewer samples than workers.
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"similarity needs 0 <= gamma <= 1, the share dealt at random, got {gamma}")

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check(samples, workers)
        shuffled = rng.permutation(len(samples.labels))
        alike, others = np.split(shuffled, [rounded_down(gamma, len(shuffled))])
        pieces = dealt(np.array_split(others[by_value(samples.labels[others], rng)], workers), rng)
        # the longer of the one kind beside the shorter of the other: where there are few, nobody is left without
        shares = sorted(np.array_split(alike, workers), key=len)
        order = np.argsort([-len(piece) for piece in pieces], kind="stable")
        parts = list(pieces)
        for share, worker in zip(shares, order, strict=True):
            parts[worker] = np.concatenate([pieces[worker], share])
        return [np.sort(part) for part in parts]

    return partition
