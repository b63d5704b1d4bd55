"""Gamma-similarity (Karimireddy et al. 2020): one share dealt at random, the rest sorted by label."""

import numpy as np

from byzax.options import checked
from byzax.simulator.partitions.base import (
    Partition,
    Samples,
    Share,
    check_samples,
    floor_share,
    shuffle_pieces,
    sort_by_label,
)


@checked
def similarity(*, gamma: Share = 0.5) -> Partition:
    """Deals a share gamma of the samples at random and the rest sorted by label: gamma-similarity.

    With gamma = 1 it is iid, with gamma = 0 extreme. Values of a regression are sorted too. The sorted pieces are dealt
    in random order.

    Splits: all samples; floor(gamma N) at random in equal shares, the others sorted in equal pieces

    Args:
        gamma: Share of the samples that is dealt at random, in [0, 1].

    Returns:
        The partition. It raises PartError for fewer samples than workers.

    Raises:
        OptionError: For `gamma` out of its range.

    References:
        Karimireddy et al., ICML 2020, "SCAFFOLD" (similarity s %); byzfl ("gamma_similarity_niid")
    """

    def partition(samples: Samples, workers: int, rng: np.random.Generator) -> list[np.ndarray]:
        check_samples(samples, workers)
        shuffled = rng.permutation(len(samples.labels))
        alike, others = np.split(shuffled, [floor_share(gamma, len(shuffled))])
        pieces = shuffle_pieces(np.array_split(others[sort_by_label(samples.labels[others], rng)], workers), rng)
        # the longer of the one kind beside the shorter of the other: where there are few, no worker is left without
        shares = sorted(np.array_split(alike, workers), key=len)
        order = np.argsort([-len(piece) for piece in pieces], kind="stable")
        parts = list(pieces)
        for share, worker in zip(shares, order, strict=True):
            parts[worker] = np.concatenate([pieces[worker], share])
        return [np.sort(part) for part in parts]

    return partition
