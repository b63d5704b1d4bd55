"""SVHN (Netzer et al. 2011): house numbers in photographs, 32x32 pixels."""

import zlib
from pathlib import Path

import numpy as np

from byzax.options import checked
from byzax.simulator.data import _files, _mat
from byzax.simulator.data._files import WAY_OUT, Fetch
from byzax.simulator.data.base import DataError, Dataset, dataset
from byzax.simulator.file_cache import file_cache

ADDRESS = "http://ufldl.stanford.edu/housenumbers"
SHA256 = {
    "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    "extra_32x32.mat": "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
}


@checked
def svhn(*, extra: bool = False, root: str | None = None) -> Dataset:
    """SVHN (cropped digits), `[99289, 32, 32, 3]` in [0, 1], from its MATLAB files or downloaded once with a checksum.

    The files are looked for in `root`, or without one in $BYZAX_DATA (in the folder itself or in its sub-folder
    `svhn`), then in `data/svhn` of the cache folder; 0.25 GB are downloaded, with extra 1.6 GB. In memory it takes
    1.2 GB, with extra 7.8 GB, and half as much again while it is read.

    Samples: 73,257 training and 26,032 test images of 10 labels; with extra 531,131 more for training, easier ones

    Args:
        extra: Whether the samples of extra_32x32.mat are training samples too.
        root: Folder of the files. None: $BYZAX_DATA, else the cache folder.

    Returns:
        The data set.

    Raises:
        DataError: Where a file is missing and cannot be downloaded, or is damaged.

    References:
        Netzer et al. 2011, "Reading digits in natural images with unsupervised feature learning"
    """
    files = ("train_32x32.mat", *(("extra_32x32.mat",) if extra else ()), "test_32x32.mat")
    fetch = {file: Fetch((f"{ADDRESS}/{file}",), SHA256[file]) for file in files}
    return _load(_files.find_folder("svhn", files, root, fetch), files)


@file_cache(maxsize=2)
def _load(folder: Path, files: tuple[str, ...]) -> Dataset:
    parts = [_read(place) for file in files if (place := _files.find_file(folder, file))]
    x = np.empty((sum(len(labels) for _, labels in parts), 32, 32, 3), np.uint8)
    start = 0
    for images, labels in parts:
        x[start : start + len(labels)] = images.transpose(3, 0, 1, 2)
        start += len(labels)
    y = np.concatenate([labels for _, labels in parts])
    return dataset(x, y, 10, np.arange(len(x) - len(parts[-1][1]), len(x)), divisor=255)


def _read(place: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images `[32, 32, 3, N]` of bytes and labels `[N]`; in the file the digit 0 has the label 10."""
    content = _files.read_bytes(place)
    try:
        held = _mat.read_arrays(content)
        images, labels = held["X"], held["y"].ravel()
    except KeyError as error:
        raise DataError(f"{place} lacks the variable {error}: a file of SVHN's cropped digits has X and y") from error
    except (ValueError, zlib.error, MemoryError) as error:
        raise DataError(f"{place} is no MATLAB file, or damaged: {error}: {WAY_OUT}") from error
    if images.shape[:3] != (32, 32, 3) or images.dtype != np.uint8 or images.ndim != 4 or not len(labels):
        raise DataError(f"{place}: X must be bytes [32, 32, 3, N], got {images.dtype}{list(images.shape)}: {WAY_OUT}")
    if len(labels) != images.shape[3]:
        raise DataError(f"{place} has {len(labels)} labels for {images.shape[3]} images: {WAY_OUT}")
    wrong = labels[~np.isin(labels, np.arange(1, 11))]
    if len(wrong):
        raise DataError(f"{place}: y must be 1..10 (10 stands for 0), got {wrong[0]}: {WAY_OUT}")
    return images, labels.astype(np.int32) % 10
