"""FEMNIST (LEAF, Caldas et al. 2018): handwritten characters by writer, 28x28 pixels."""

from pathlib import Path
from typing import Any

import numpy as np

from byzax.options import checked
from byzax.simulator.data import _files, _leaf
from byzax.simulator.data.base import Count, Dataset, dataset, too_large
from byzax.simulator.file_cache import file_cache

CLASSES, SIDE = 62, 28


@checked
def femnist(*, root: str | None = None, writers: Count | None = None, leaf_split: bool = False) -> Dataset:
    """FEMNIST, `[N, 28, 28]` in [0, 1], characters by some 3,600 writers, from the JSON files that LEAF makes.

    Paper is 1 and ink 0 there, the other way round than in mnist: to triggers and augmentations paper is background.
    LEAF's paper counts 805,263 samples of 3,550 writers, and its scripts make some more.

    LEAF's scripts write all_data_0.json and so on (`data/femnist/preprocess.sh` in its repository), and below train/
    and test/ a split of them; there is no download. They are looked for in `root`, or without one in $BYZAX_DATA
    (itself or its sub-folder `femnist`), then in `data/femnist` of the cache folder. Owners are the writers, of test
    samples too: share them out with the partition by_writer, and take `test_by: owners` for a test set of writers that
    no worker trains on. In memory all of it takes 2.5 GB, and about 1 GB more while one file is read.

    Samples: about 227 for each writer, of 62 labels (digits, capital and small letters), a test set with leaf_split

    Args:
        root: Folder of the files. None: $BYZAX_DATA, else the cache folder.
        writers: Number of writers, the first ones of the files. None: all.
        leaf_split: Whether the training and test samples are those of LEAF's folders train/ and test/, split by samples
            or by users as its scripts were called, in place of all_data_*.json. With `writers` the test samples are
            theirs, or, where writers have either training or test samples, those of all test writers.

    Returns:
        The data set.

    Raises:
        OptionError: For `writers` out of its range.
        DataError: Where files are missing or damaged, or hold fewer writers.

    References:
        Caldas et al. 2018, "LEAF: a benchmark for federated settings"
    """
    return _load(
        _files.find_folder("femnist", _leaf.file_patterns(leaf_split), root, origin=_leaf.origin("femnist")),
        writers,
        leaf_split,
    )


@file_cache(maxsize=2)
def _load(folder: Path, writers: int | None, leaf_split: bool) -> Dataset:
    pool = _leaf.load("femnist", folder, leaf_split, _parse, writers)
    return dataset(pool.x, pool.y, CLASSES, pool.test, pool.owners, background="high")


def _parse(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Converts the samples of one writer to images `[m, 28, 28]` and labels `[m]`."""
    images, labels = np.array(x, np.float64), np.array(y)
    if not np.isfinite(images).all() or too_large(images).any():
        raise ValueError("a pixel is not finite, or beyond float32")
    if labels.dtype.kind != "i" or labels.ndim != 1 or not len(labels) or labels.min() < 0 or labels.max() >= CLASSES:
        raise ValueError(f"a label in 0..{CLASSES - 1} is needed for each image")
    return images.astype(np.float32).reshape(len(images), SIDE, SIDE), labels
