"""What a partition is: the types shared by every file of this folder."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Random splits that leave somebody with too few samples are drawn again, so many times.
ATTEMPTS = 1000


class Samples(NamedTuple):
    """The training samples that are shared out.

    `labels` `[N]`: int32, or the float32 values of a regression. `owners` `[N]` int32: whose sample each is by nature,
    or None. `x()` gives the samples `[N, ...]`: a copy of them, made when somebody asks.
    """

    labels: np.ndarray
    owners: np.ndarray | None
    x: Callable[[], np.ndarray]


# (samples, number of workers, rng) -> for each worker the positions of its samples: disjoint, none empty, ascending
Partition = Callable[[Samples, int, np.random.Generator], list[np.ndarray]]


def check(samples: Samples, workers: int, minimum: int = 1) -> None:
    """Raises ValueError unless there is a worker and `minimum` samples for each."""
    if workers < 1:
        raise ValueError(f"a partition needs workers >= 1, got {workers}")
    if len(samples.labels) < workers * minimum:
        raise ValueError(
            f"{len(samples.labels)} training samples are too few for {workers} workers with at least {minimum} each: "
            f"at most {len(samples.labels) // minimum} workers, or more samples"
        )


def known_labels(name: str, samples: Samples) -> np.ndarray:
    """The labels that occur, ascending. Raises ValueError where the samples have values in place of labels."""
    if np.issubdtype(samples.labels.dtype, np.floating):
        raise ValueError(
            f"{name} deals by label, and this data has values to predict (regression): take iid, quantity_skew or "
            f"feature_skew, or similarity, shards or extreme, which sort the values"
        )
    return np.unique(samples.labels)


def rounded_down(share: float, count: int) -> int:
    """A share of so many samples; a product such as 0.29 * 100 is a little below what it stands for."""
    return int(share * count + 1e-9)


def by_value(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions in the order of the labels or values, equal ones in random order."""
    shuffled = rng.permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def dealt(pieces: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """The pieces in random order: the first workers, who are Byzantine, do not always hold the first labels."""
    return [pieces[piece] for piece in rng.permutation(len(pieces))]
