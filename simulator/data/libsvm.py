"""Files in the format of LIBSVM."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from simulator.data import _files
from simulator.data.base import LARGEST, DataError, Dataset, dataset, too_large
from simulator.file_cache import file_cache, reads


def libsvm(
    *,
    path: str,
    features: int | None = None,
    task: Literal["classification", "regression"] = "classification",
    test_path: str | None = None,
) -> Dataset:
    """Lines `label index:value ...` with indices from 1, such as a9a, phishing or mushrooms, `[N, features]`.

    The file may be packed (.gz or .bz2). Labels are numbered in their order: -1 and +1 become 0 and 1. In memory all
    values are held, the zeros too: 4 bytes each.

    Samples: those of the file, no test set of its own unless test_path names one
    Source: Chang and Lin 2011, "LIBSVM: a library for support vector machines", and its collection of data sets

    Args:
        path: of the file; relative to the folder that byzax is started in, or to $BYZAX_DATA.
        features: their number; None takes the largest index of the files.
        task: whether the first number of a line is a label or a value.
        test_path: of a file whose samples are the test set.

    Raises:
        ValueError: for an option out of range.
        DataError: where a file is missing or damaged, or has an index above `features`.
    """
    if task not in ("classification", "regression"):
        raise ValueError(f'libsvm has the tasks "classification" and "regression", got {task!r}')
    if features is not None and features < 1:
        raise ValueError(f"libsvm needs features >= 1, or null for the largest index, got {features}")
    places = [_files.given("libsvm", "path", path)]
    if test_path is not None:
        places.append(_files.given("libsvm", "test_path", test_path))
    return _load(tuple(places), features, task == "classification")


@file_cache(maxsize=4)
def _load(places: tuple[Path, ...], features: int | None, labelled: bool) -> Dataset:
    parts = [_read(place) for place in places]
    largest = max(x.shape[1] for x, _ in parts)
    if features is not None and largest > features:
        raise DataError(f"{places[0]} has the index {largest}, and data.features is {features}: raise it")
    width, count = features or largest, sum(x.shape[0] for x, _ in parts)
    if width * count > LARGEST:
        raise ValueError(f"libsvm holds at most {LARGEST} numbers: {count} samples of {width} are too many")
    x = np.zeros((count, width), np.float32)
    start = 0
    for sparse, _ in parts:
        x[start : start + sparse.shape[0], : sparse.shape[1]] = sparse.toarray()
        start += sparse.shape[0]
    y, classes = np.concatenate([values for _, values in parts]), None
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or (not labelled and too_large(y).any()):
        raise DataError(f"{' or '.join(map(str, places))} holds a value that is not finite, or beyond float32 (3.4e38)")
    if labelled:
        known, y = np.unique(y, return_inverse=True)
        classes = len(known)
        if classes < 2:
            raise DataError(f"{places[0]}: all labels are {known[0]:g}: two are needed, or task: regression")
    test = np.arange(parts[0][0].shape[0], count) if len(parts) > 1 else None
    return dataset(x, y, classes, test)


def _read(place: Path) -> tuple[Any, np.ndarray]:
    # here, not above: scikit-learn takes about a second to import
    from sklearn.datasets import load_svmlight_file

    reads(place)
    try:
        x, y = load_svmlight_file(str(place), dtype=np.float32, zero_based=False)[:2]  # pyright: ignore[reportArgumentType]
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, OverflowError) as error:
        raise DataError(f"{place} is no file in LIBSVM's format: {' '.join(str(error).split())}") from error
    if not x.shape[0] or not x.shape[1]:
        raise DataError(f"{place} holds no samples, or no value of one")
    return x, y
