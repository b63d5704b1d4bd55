"""What a data set is, and its split into training, validation and test samples."""

from typing import Literal, NamedTuple

import numpy as np

# What is made, or unfolded from zeros that were left out, holds at most so many numbers: 8 GB in float64.
LARGEST = 10**9


class DataError(ValueError):
    """Data that is missing or damaged; the message names the file and the way out."""


class Dataset(NamedTuple):
    """Samples with labels or values, training and test in one pool.

    `x`: `[N, ...]` float32, or int32 for characters. `y`: `[N]` int32, labels in 0..`classes`-1; or float32, values to
    predict, where `classes` is None (regression). `test`: positions `[T]` of the official test samples, or None where
    the data set has none of its own. `owners`: `[N]` int32, whose sample each is by nature (writer, speaker, device),
    test samples too, -1 where that is not known; or None. `labels`: names `[classes]` of the labels where they are
    others than their numbers, else None. `about`: lines that say what was found in files of the user's own: types,
    sizes, ranges, labels. `background`: the end of the range of `x` that is seen where nothing is, "high" for dark ink
    on white paper. The arrays are read-only, for all runs of a process share them, and may be memory maps.
    """

    x: np.ndarray
    y: np.ndarray
    classes: int | None
    test: np.ndarray | None = None
    owners: np.ndarray | None = None
    labels: tuple[str, ...] | None = None
    about: tuple[str, ...] = ()
    background: Literal["low", "high"] = "low"


# what a share of is for the test
TestBy = Literal["samples", "owners"]


class Split(NamedTuple):
    """Positions in the pool, each ascending; the three share no sample and cover the pool."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def dataset(
    x: np.ndarray,
    y: np.ndarray,
    classes: int | None,
    test: np.ndarray | None = None,
    owners: np.ndarray | None = None,
    labels: tuple[str, ...] | None = None,
    about: tuple[str, ...] = (),
    background: Literal["low", "high"] = "low",
) -> Dataset:
    """A `Dataset` of read-only arrays of the agreed types: whole numbers stay such, and nothing is copied in vain."""
    made = Dataset(
        np.ascontiguousarray(x, np.int32 if np.issubdtype(x.dtype, np.integer) else np.float32),
        np.ascontiguousarray(y, np.float32 if classes is None else np.int32),
        classes,
        test,
        None if owners is None else np.ascontiguousarray(owners, np.int32),
        labels,
        about,
        background,
    )
    for array in (made.x, made.y, made.test, made.owners):
        if array is not None:
            array.flags.writeable = False
    return made


def describe(key: str, held: np.ndarray) -> str:
    """One line about an array: its type, shape and range.

    >>> describe("x", np.arange(6, dtype=np.uint8).reshape(2, 3))
    'x: uint8 [2, 3], 0 to 5'
    """
    low, high = float(held.min()), float(held.max())
    coarse = ", of which float32 keeps 7 digits" if max(-low, high) > 2**24 else ""
    return f"{key}: {held.dtype} {list(held.shape)}, {low:g} to {high:g}{coarse}"


def too_large(values: np.ndarray) -> np.ndarray:
    """Mask of the finite values that are infinite as float32."""
    with np.errstate(over="ignore"):
        return np.isinf(values.astype(np.float32))


def split(dataset: Dataset, rng: np.random.Generator, validation: float, test: float, by: TestBy = "samples") -> Split:
    """Positions of the training, validation and test samples, drawn without regard to the labels.

    A data set with official test samples keeps them as they are: `test` is then not used and `validation` is a share of
    the other samples. Otherwise both are shares of all samples; with `by` "owners" `test` is a share of the owners, all
    of whose samples are for the test, and `validation` one of the other samples. A share above 0 gives at least one.

    Raises:
        ValueError: where a share is outside [0, 1), where no test samples or no training samples are left, and where
            test owners cannot be drawn.
    """
    for name, share in (("validation", validation), ("test", test)):
        if not 0 <= share < 1:
            raise ValueError(f"{name} is a share of the samples, 0 <= {name} < 1, got {share}")
    pool = np.arange(len(dataset.y))
    if dataset.test is not None:
        pool = np.setdiff1d(pool, dataset.test)
    elif test == 0:
        raise ValueError("this data set has no test samples of its own: test must be above 0, such as 0.2")
    if by == "owners":
        return _by_owners(dataset, rng, validation, test)
    sizes = [max(1, round(share * len(pool))) if share else 0 for share in (validation, test)]
    if dataset.test is not None:
        sizes[1] = 0
    if sum(sizes) >= len(pool):
        raise ValueError(
            f"validation={validation} and test={test} leave no training samples: they take {sum(sizes)} of "
            f"{len(pool)}; choose shares with a sum well below 1"
        )
    shuffled = rng.permutation(pool)
    held, tested, rest = np.split(shuffled, np.cumsum(sizes))
    return Split(np.sort(rest), np.sort(held), np.sort(tested) if dataset.test is None else dataset.test)


def _by_owners(dataset: Dataset, rng: np.random.Generator, validation: float, test: float) -> Split:
    """A split with test samples of owners that have no others."""
    if dataset.test is not None:
        raise ValueError("test_by owners draws the test set, and this data set has one of its own: take samples")
    if dataset.owners is None:
        raise ValueError("test_by owners needs data that says whose each sample is: take samples")
    known = np.unique(dataset.owners)
    count = max(1, round(test * len(known)))
    if count >= len(known):
        raise ValueError(f"test={test} with test_by owners leaves none of {len(known)} owners for training: lower it")
    tested = np.isin(dataset.owners, rng.permutation(known)[:count])
    others = rng.permutation(np.flatnonzero(~tested))
    kept = max(1, round(validation * len(others))) if validation else 0
    if kept >= len(others):
        raise ValueError(f"validation={validation} leaves none of {len(others)} samples for training: lower it")
    return Split(np.sort(others[kept:]), np.sort(others[:kept]), np.flatnonzero(tested))
