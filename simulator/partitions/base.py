"""The type of a partition, its input, and what the files of this folder share."""

from typing import Annotated, NamedTuple, Protocol

import numpy as np
from pydantic import Field

from byzax.options import PartError

# A random split that leaves a worker with too few samples is drawn again, at most so many times and never with more
# random numbers than this altogether, which take some seconds.
MAX_ATTEMPTS, MAX_DRAWN = 1000, 3 * 10**8

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class LoadSamples(Protocol):
    """Access to the features of the training samples, which most partitions do without."""

    def __call__(self) -> np.ndarray:
        """Returns a copy of the training samples, `[N, ...]`; it is made at each call."""
        ...


class Samples(NamedTuple):
    """The training samples that a partition splits over workers.

    Attributes:
        labels: Labels `[N]`, int32; or the float32 values of a regression.
        owners: Owner of each sample (writer, speaker, device), `[N]` int32; None where the data set has none.
        x: Gives the samples `[N, ...]`.
    """

    labels: np.ndarray
    owners: np.ndarray | None
    x: LoadSamples


class Partition(Protocol):
    """A split of the training samples over workers."""

    def __call__(self, samples: Samples, workers: int, rng: np.random.Generator, /) -> list[np.ndarray]:
        """Splits the samples.

        Args:
            samples: The training samples.
            workers: Number of workers.
            rng: Random generator.

        Returns:
            Positions of the samples of each worker, ascending; no two workers share a sample, and each has at least
            one.

        Raises:
            PartError: Where these samples cannot be split in this way over so many workers.
        """
        ...


def check_samples(samples: Samples, workers: int, minimum: int = 1) -> None:
    """Raises PartError unless there is a worker, and enough samples for each worker.

    Args:
        samples: The training samples.
        workers: Number of workers.
        minimum: Number of samples that each worker needs.
    """
    if workers < 1:
        raise PartError(f"a partition needs workers >= 1, got {workers}")
    if len(samples.labels) < workers * minimum:
        most = len(samples.labels) // minimum
        # `minimum` may stand for an option, whose name the caller knows
        way_out = fewer_workers(most) if most else "ask for fewer for each"
        raise PartError(
            f"{len(samples.labels)} training samples are too few for {workers} worker{'s' if workers > 1 else ''} with "
            f"at least {minimum} each: {way_out}, or take more samples"
        )


def fewer_workers(most: int) -> str:
    """The advice to take at most so many workers, in words.

    Example:
        >>> fewer_workers(1), fewer_workers(3)
        ('take 1 worker', 'take at most 3 workers')
    """
    return "take 1 worker" if most == 1 else f"take at most {most} workers"


def max_attempts(drawn: int) -> int:
    """The number of times that a random split may be drawn, so that it takes no more than some seconds.

    Args:
        drawn: Number of random numbers that one attempt takes.

    Returns:
        Number of attempts, from 10 to `MAX_ATTEMPTS`.
    """
    return max(10, min(MAX_ATTEMPTS, MAX_DRAWN // drawn))


def no_split_error(name: str, samples: Samples, workers: int, minimum: int, alpha: float, attempts: int) -> PartError:
    """The error of a partition all of whose draws left a worker with too few samples."""
    fewer = "lower min_partition_size or " if minimum > 1 else ""
    return PartError(
        f"{name} found no split of {len(samples.labels)} samples over {workers} workers with at least {minimum} each "
        f"in {attempts} draws: raise alpha (now {alpha}), {fewer}take fewer workers"
    )


def distinct_labels(name: str, samples: Samples) -> np.ndarray:
    """The labels that occur.

    Args:
        name: Name of the partition, for the message.
        samples: The training samples.

    Returns:
        The labels, ascending.

    Raises:
        PartError: Where the samples have values instead of labels (regression).
    """
    if np.issubdtype(samples.labels.dtype, np.floating):
        raise PartError(
            f"{name} deals by label, and this data has values to predict (regression): take iid, quantity_skew or "
            f"feature_skew, or similarity, shards or extreme, which sort the values"
        )
    return np.unique(samples.labels)


def floor_share(share: float, count: int) -> int:
    """A share of so many samples, rounded down."""
    # a product such as 0.29 * 100 is a little below the whole number that it stands for
    return int(share * count + 1e-9)


def sort_by_label(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions in the order of the labels or values `[N]`, equal ones in random order."""
    shuffled = rng.permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def shuffle_pieces(pieces: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """The pieces in random order."""
    # otherwise the first workers, which are the Byzantine ones, would always hold the first labels
    return [pieces[piece] for piece in rng.permutation(len(pieces))]
