"""What a partition is: the types shared by every file of this folder."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Random splits that leave somebody with too few samples are drawn again: so many times, and altogether so many numbers,
# which takes some seconds.
ATTEMPTS, DRAWN = 1000, 3 * 10**8


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
        most = len(samples.labels) // minimum
        # `minimum` may stand for an option, which the caller knows
        way_out = fewer_workers(most) if most else "ask for fewer for each"
        raise ValueError(
            f"{len(samples.labels)} training samples are too few for {workers} worker{'s' if workers > 1 else ''} with "
            f"at least {minimum} each: {way_out}, or take more samples"
        )


def fewer_workers(most: int) -> str:
    """The way out in words where there is enough for so many workers.

    >>> fewer_workers(1), fewer_workers(3)
    ('take 1 worker', 'take at most 3 workers')
    """
    return "take 1 worker" if most == 1 else f"take at most {most} workers"


def attempts(drawn: int) -> int:
    """How often a random split of which each draw takes so many numbers is tried: never for more than some seconds."""
    return max(10, min(ATTEMPTS, DRAWN // drawn))


def no_split(name: str, samples: Samples, workers: int, minimum: int, alpha: float, tried: int) -> ValueError:
    """The error of a partition that drew so often, and always left somebody with too few samples."""
    fewer = "lower min_partition_size or " if minimum > 1 else ""
    return ValueError(
        f"{name} found no split of {len(samples.labels)} samples over {workers} workers with at least {minimum} each "
        f"in {tried} draws: raise alpha (now {alpha}), {fewer}take fewer workers"
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
