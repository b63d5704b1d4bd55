"""LIBSVM: sparse samples in a file of your own, in the format of LIBSVM."""

from pathlib import Path
from typing import Any

import numpy as np

from byzax.options import checked
from byzax.simulator.data import _files, _targets
from byzax.simulator.data.base import LARGEST, Count, DataError, Dataset, Task, dataset, describe
from byzax.simulator.file_cache import depends_on, file_cache
from byzax.simulator.mistakes import shorten


@checked
def libsvm(
    *,
    path: str,
    features: Count | None = None,
    task: Task = "classification",
    test_path: str | None = None,
) -> Dataset:
    """Reads lines `label index:value ...` with indices from 1, such as a9a, phishing or mushrooms, `[N, features]`.

    The file may be packed (.gz or .bz2). Labels are whole numbers, numbered in their order: -1 and +1 become 0 and 1.
    In memory all values are held, the zeros too: 4 bytes each.

    Samples: those of the file, no test set of its own unless test_path names one

    Args:
        path: Path of the file, relative to the working directory or to $BYZAX_DATA.
        features: Number of features. None: the largest index of the files.
        task: Whether the first number of a line is a label or a value.
        test_path: Path of a file whose samples are the test set. None: a share of all is drawn.

    Returns:
        The data set.

    Raises:
        OptionError: For an option out of its range.
        DataError: Where a file is missing or damaged, or has an index above `features`.

    References:
        Chang and Lin 2011, "LIBSVM: a library for support vector machines", and its collection of data sets
    """
    places = [_files.find_named("libsvm", "path", path)]
    if test_path is not None:
        places.append(_files.find_named("libsvm", "test_path", test_path))
    return _load(tuple(places), features, task == "classification")


@file_cache(maxsize=4)
def _load(places: tuple[Path, ...], features: int | None, labelled: bool) -> Dataset:
    parts = [_read(place) for place in places]
    largest = max(x.shape[1] for x, _ in parts)
    if features is not None and largest > features:
        raise DataError(f"{places[0]} has the index {largest}, and data.features is {features}: raise it")
    width, count = features or largest, sum(x.shape[0] for x, _ in parts)
    if width * count > LARGEST:
        raise DataError(f"{places[0]}: {count} samples of {width} features are more than {LARGEST} numbers")
    x = np.zeros((count, width), np.float32)
    start = 0
    for sparse, _ in parts:
        x[start : start + sparse.shape[0], : sparse.shape[1]] = sparse.toarray()
        start += sparse.shape[0]
    where = " or ".join(map(str, places))
    if not np.isfinite(x).all():
        raise DataError(f"{where} holds a value that is not finite, or beyond float32 (3.4e38)")
    y = np.concatenate([values for _, values in parts])
    test = np.arange(parts[0][0].shape[0], count) if len(parts) > 1 else None
    about = (describe("x", x),)
    if not labelled:
        about += (_targets.describe_values("y", y.dtype, y),)
        return dataset(x, _targets.to_values(where, y), None, test, about=about)
    numbers, names = _targets.number_labels(where, y)
    about += (_targets.describe_labels("y", y.dtype, names, count),)
    return dataset(x, numbers, len(names), test, labels=_targets.label_names(names), about=about)


def _read(place: Path) -> tuple[Any, np.ndarray]:
    # here, not above: scikit-learn takes about a second to import
    from sklearn.datasets import load_svmlight_file

    depends_on(place)
    try:
        x, y = load_svmlight_file(str(place), dtype=np.float32, zero_based=False)[:2]  # pyright: ignore[reportArgumentType]
    except Exception as error:  # whatever scikit-learn and what unpacks the file make of damaged bytes
        raise DataError(f"{place} is no file in LIBSVM's format, or damaged: {shorten(str(error), 200)}") from error
    if not x.shape[0] or not x.shape[1]:
        raise DataError(f"{place} holds no samples, or no value of one")
    return x, y
