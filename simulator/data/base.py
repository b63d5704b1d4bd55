"""The type of a data set, its split into training, validation and test samples, and what the files here share."""

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from byzax.options import OptionError, PartError

# Data that is generated, or unfolded from a sparse file, holds at most so many numbers: 8 GB in float64.
LARGEST = 10**9

Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
AtLeastTwo = Annotated[int, Field(ge=2)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]
SeedNumber = Annotated[int, Field(ge=0)]

Task = Literal["classification", "regression"]
# what the share of test samples is a share of
TestBy = Literal["samples", "owners"]


class DataError(PartError):
    """Data that is missing or damaged; the message names the file and the way out."""


class Dataset(NamedTuple):
    """Samples with labels or values, training and test samples in one pool.

    The arrays are read-only, since all runs of a process share them, and may be memory maps.

    Attributes:
        x: Samples `[N, ...]`, float32; int32 for characters; uint8, a quarter of the memory, for numbers that are bytes
            in their file. Models get `values()` of them.
        y: Labels `[N]`, int32 in 0..`classes`-1; or values to predict `[N]`, float32, where `classes` is None.
        classes: Number of labels; None for a regression.
        test: Positions `[T]` of the official test samples; None where the data set has none of its own.
        owners: Owner of each sample (writer, speaker, device), of test samples too, `[N]` int32, -1 where it is
            unknown; None for data without owners.
        labels: Names `[classes]` of the labels; None where these are their numbers.
        about: Lines about the user's own files: types, sizes, ranges and labels found there.
        background: End of the range of `x` that stands for an empty place: "high" for dark ink on white paper.
        divisor: The number that the bytes of an `x` of uint8 are divided by, 255 for images in [0, 1]; None for others.
    """

    x: np.ndarray
    y: np.ndarray
    classes: Count | None
    test: np.ndarray | None = None
    owners: np.ndarray | None = None
    labels: tuple[str, ...] | None = None
    about: tuple[str, ...] = ()
    background: Literal["low", "high"] = "low"
    divisor: int | None = None

    @property
    def dtype(self) -> np.dtype:
        """The type of the samples that models get: float32, or int32 for characters."""
        return self.x.dtype if self.divisor is None else np.dtype(np.float32)

    def values(self, positions: Any = slice(None)) -> np.ndarray:
        """The samples that models get.

        Args:
            positions: Positions in the pool, or a slice of it.

        Returns:
            Samples `[b, ...]`, of `dtype`.

        Example:
            >>> dataset(np.array([[0], [51]], np.uint8), [0, 1], 2, divisor=255).values([1]).tolist()
            [[0.20000000298023224]]
        """
        return self.decode(self.x[positions])

    def decode(self, x: np.ndarray) -> np.ndarray:
        """The values that stored samples stand for, float32 or int32; `x` itself where that is what they are."""
        return x if self.divisor is None else np.divide(x, self.divisor, dtype=np.float32)


class Split(NamedTuple):
    """Positions in the pool of samples, each ascending; the three share no sample and cover the pool.

    Attributes:
        train: Positions of the training samples.
        validation: Positions of the validation samples.
        test: Positions of the test samples.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def dataset(
    x: ArrayLike,
    y: ArrayLike,
    classes: int | None,
    test: np.ndarray | None = None,
    owners: ArrayLike | None = None,
    labels: tuple[str, ...] | None = None,
    about: tuple[str, ...] = (),
    background: Literal["low", "high"] = "low",
    divisor: int | None = None,
) -> Dataset:
    """Builds a data set of read-only arrays of the agreed types.

    Args:
        x: Samples `[N, ...]`, an array or lists; whole numbers become int32, others float32, and with `divisor` bytes
            stay bytes. An array that has this type already is not copied, and made read-only itself.
        y: Labels or values `[N]`.
        classes: Number of labels; None for a regression.
        test: See `Dataset`.
        owners: See `Dataset`.
        labels: See `Dataset`.
        about: See `Dataset`.
        background: See `Dataset`.
        divisor: See `Dataset`; `x` must then be of uint8.

    Returns:
        The data set.

    Raises:
        ValueError: For a divisor below 1, or one of samples that are no bytes.
    """
    x = np.asarray(x)
    if divisor is not None and (x.dtype != np.uint8 or divisor < 1):
        raise ValueError(f"divisor {divisor}: must be at least 1, and is for samples of uint8: got {x.dtype}")
    kind = np.uint8 if divisor is not None else np.int32 if np.issubdtype(x.dtype, np.integer) else np.float32
    built = Dataset(
        np.ascontiguousarray(x, kind),
        np.ascontiguousarray(y, np.float32 if classes is None else np.int32),
        classes,
        test,
        None if owners is None else np.ascontiguousarray(owners, np.int32),
        labels,
        about,
        background,
        divisor,
    )
    for array in (built.x, built.y, built.test, built.owners):
        if array is not None:
            array.flags.writeable = False
    return built


def describe(key: str, array: np.ndarray) -> str:
    """One line about an array: its type, shape and range.

    Example:
        >>> describe("x", np.arange(6, dtype=np.uint8).reshape(2, 3))
        'x: uint8 [2, 3], 0 to 5'
    """
    low, high = float(array.min()), float(array.max())
    coarse = ", of which float32 keeps 7 digits" if max(-low, high) > 2**24 else ""
    return f"{key}: {array.dtype} {list(array.shape)}, {low:g} to {high:g}{coarse}"


def too_large(values: np.ndarray) -> np.ndarray:
    """The mask of the values that are infinite as float32."""
    with np.errstate(over="ignore"):
        return np.isinf(values.astype(np.float32))


def check_size(samples: int, features: int) -> None:
    """Raises OptionError for more samples of so many features than a generated data set may hold."""
    if samples * features > LARGEST:
        raise OptionError(
            "samples",
            f"must be at most {LARGEST // features} with {features} numbers each ({LARGEST} altogether), got {samples}",
        )


def split(dataset: Dataset, rng: np.random.Generator, validation: float, test: float, by: TestBy = "samples") -> Split:
    """Draws the training, validation and test samples, without regard to the labels.

    A data set with official test samples keeps them as they are: `test` is then not used and `validation` is a share of
    the other samples. Otherwise both are shares of all samples; with `by` "owners" `test` is a share of the owners, all
    of whose samples are for the test, and `validation` one of the other samples. A share above 0 gives at least one.

    Args:
        dataset: The data set.
        rng: Random generator.
        validation: Share of the samples for validation, in [0, 1).
        test: Share of the samples, or of the owners, for the test, in [0, 1).
        by: The units of which `test` is a share.

    Returns:
        The positions of the samples.

    Raises:
        PartError: Where a share is outside [0, 1), where no test samples or no training samples are left, and where
            test owners cannot be drawn.
    """
    for name, share in (("validation", validation), ("test", test)):
        if not 0 <= share < 1:
            raise PartError(f"{name} is a share of the samples, 0 <= {name} < 1, got {share}")
    pool = np.arange(len(dataset.y))
    if dataset.test is not None:
        pool = np.setdiff1d(pool, dataset.test)
    elif test == 0:
        raise PartError("this data set has no test samples of its own: test must be above 0, such as 0.2")
    if by == "owners":
        return _split_by_owners(dataset, rng, validation, test)
    sizes = [max(1, round(share * len(pool))) if share else 0 for share in (validation, test)]
    if dataset.test is not None:
        sizes[1] = 0
    if sum(sizes) >= len(pool):
        raise PartError(
            f"validation={validation} and test={test} leave no training samples: they take {sum(sizes)} of "
            f"{len(pool)}; choose shares with a sum well below 1"
        )
    shuffled = rng.permutation(pool)
    for_validation, for_test, rest = np.split(shuffled, np.cumsum(sizes))
    return Split(np.sort(rest), np.sort(for_validation), np.sort(for_test) if dataset.test is None else dataset.test)


def _split_by_owners(dataset: Dataset, rng: np.random.Generator, validation: float, test: float) -> Split:
    """A split whose test samples are all those of some owners."""
    if dataset.test is not None:
        raise PartError("test_by owners draws the test set, and this data set has one of its own: take samples")
    if dataset.owners is None:
        raise PartError("test_by owners needs data that has an owner for each sample: take samples")
    owners = np.unique(dataset.owners)
    count = max(1, round(test * len(owners)))
    if count >= len(owners):
        raise PartError(f"test={test} with test_by owners leaves none of {len(owners)} owners for training: lower it")
    for_test = np.isin(dataset.owners, rng.permutation(owners)[:count])
    others = rng.permutation(np.flatnonzero(~for_test))
    kept = max(1, round(validation * len(others))) if validation else 0
    if kept >= len(others):
        raise PartError(f"validation={validation} leaves none of {len(others)} samples for training: lower it")
    return Split(np.sort(others[kept:]), np.sort(others[:kept]), np.flatnonzero(for_test))
