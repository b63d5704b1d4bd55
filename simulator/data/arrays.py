"""Arrays of your own."""

import zipfile
from pathlib import Path

import numpy as np

from simulator.data import _files
from simulator.data.base import DataError, Dataset, dataset, too_large
from simulator.file_cache import file_cache, reads

KEYS = ("x", "y", "x_test", "y_test", "owners")


def arrays(*, path: str, tokens: bool = False) -> Dataset:
    """NumPy arrays `x` `[N, ...]` and `y` `[N]` from an .npz, or from a folder of .npy files: x.npy, y.npy and so on.

    Whole numbers in `y` are labels 0, 1, ...; others are values to predict (regression). Besides there may be `x_test`
    and `y_test`, the test set, and `owners` `[N]`, whole numbers that say whose each sample of `x` is, for the
    partition by_writer. An `x` of float32 (of int32 with tokens) in a folder without a test set is not read but mapped,
    until the run places it on its device; everything else takes a copy.

    Samples: yours
    Source: yours

    Args:
        path: of the .npz or the folder; relative to the folder that byzax is started in, or to $BYZAX_DATA.
        tokens: whether whole numbers in `x` stay such, as characters or words do; they become float32 else, as pixels.

    Raises:
        DataError: where the file or an array is missing or damaged, or arrays do not fit each other.
    """
    return _load(_files.given("arrays", "path", path), tokens)


@file_cache(maxsize=4)
def _load(place: Path, tokens: bool) -> Dataset:
    held = _read(place)
    for key in ("x", "y", *(("x_test", "y_test") if {"x_test", "y_test"} & set(held) else ())):
        if key not in held:
            raise DataError(f"{place} lacks the array {key}: it has {_files.listed(held) if held else 'none we know'}")
    for key, array in held.items():
        partner = "x_test" if key.endswith("_test") else "x"
        if array.dtype.kind not in "fiub":
            raise DataError(f"{place}: {key} must hold numbers, got {array.dtype}")
        if array.ndim != 1 if key not in ("x", "x_test") else array.ndim < 2:
            shape = "[N, ...]" if key in ("x", "x_test") else "[N]"
            raise DataError(f"{place}: {key} must be {shape}, got {list(array.shape)}")
        if len(array) != len(held[partner]) or not len(array):
            raise DataError(f"{place}: {key} has {len(array)} entries for {len(held[partner])} samples of {partner}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{place}: {key} holds a number that is not finite")
        if array.dtype == np.float64 and too_large(array).any():
            where = ", ".join(map(str, np.argwhere(too_large(array))[0]))
            raise DataError(
                f"{place}: {key}[{where}] is {array.flat[int(np.argmax(too_large(array)))]:g}, and numbers are kept as "
                "float32, up to 3.4e38: bring them to another unit"
            )
    x, y, test, owners = held["x"], held["y"], None, held.get("owners")
    if "x_test" in held:
        if held["x_test"].shape[1:] != x.shape[1:]:
            raise DataError(
                f"{place}: samples of x_test are {list(held['x_test'].shape[1:])}, of x {list(x.shape[1:])}"
            )
        test = np.arange(len(x), len(x) + len(held["x_test"]))
        x, y = np.concatenate([x, held["x_test"]]), np.concatenate([y, held["y_test"]])
        # nobody trains on test samples: whose they are does not matter
        owners = None if owners is None else np.concatenate([owners, np.full(len(test), -1)])
    if owners is not None and owners.dtype.kind not in "iu":
        raise DataError(f"{place}: owners must be whole numbers, got {owners.dtype}")
    if tokens and x.dtype.kind not in "iu":
        raise DataError(f"{place}: with data.tokens x must hold whole numbers, got {x.dtype}")
    classes = None
    if y.dtype.kind in "iub":
        classes = int(y.max()) + 1
        if y.min() < 0 or classes < 2:
            raise DataError(f"{place}: labels must be 0, 1, ... with two of them or more, got {y.min()}..{y.max()}")
    return dataset(x if tokens else np.asarray(x, np.float32), y, classes, test, owners)


def _read(place: Path) -> dict[str, np.ndarray]:
    try:
        if place.is_dir():
            files = {key: place / f"{key}.npy" for key in KEYS}
            for file in files.values():
                reads(file)
            return {key: np.load(file, mmap_mode="r") for key, file in files.items() if file.is_file()}
        reads(place)
        with place.open("rb") as file:
            held = np.load(file)
            if not isinstance(held, np.lib.npyio.NpzFile):
                raise DataError(f"{place} holds one array: an .npz with x and y is needed, or a folder of .npy files")
            return {key: held[key] for key in KEYS if key in held}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{place} is no .npz or folder of .npy files of numbers, or damaged: {error}") from error
