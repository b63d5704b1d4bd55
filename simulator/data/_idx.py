"""The IDX format of MNIST, with every byte count checked."""

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from byzax.simulator.data import _files
from byzax.simulator.data._files import WAY_OUT, Fetch
from byzax.simulator.data.base import DataError, Dataset, dataset
from byzax.simulator.file_cache import file_cache

# number of dimensions of each file: training images, training labels, test images, test labels
DIMENSIONS = (3, 1, 3, 1)
# of MNIST, and of data sets that use its names
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def build_fetches(mirrors: tuple[str, ...], sha256: Mapping[str, str]) -> dict[str, Fetch]:
    """Builds the downloads of a data set whose files are packed with gzip.

    Args:
        mirrors: Addresses of folders that hold all of them.
        sha256: Checksum of each packed file, by the name without .gz.

    Returns:
        The downloads, by the names that they are kept under.
    """
    return {
        f"{file}.gz": Fetch(tuple(f"{mirror}/{file}.gz" for mirror in mirrors), checksum)
        for file, checksum in sha256.items()
    }


@file_cache(maxsize=4)
def load(
    name: str, folder: Path, files: tuple[str, ...] = FILES, classes: int = 10, first: int = 0, turned: bool = False
) -> Dataset:
    """Reads a data set in the IDX format.

    Args:
        name: Name of the data set, for messages.
        folder: Folder of the files.
        files: Files of training images, training labels, test images and test labels.
        classes: Number of labels.
        first: Smallest label in the files, which becomes 0.
        turned: Whether rows and columns of the images are exchanged in the files.

    Returns:
        The data set, with pixels in [0, 1].

    Raises:
        DataError: Where a file is damaged, or does not fit the others.
    """
    paths = [place for file in files if (place := _files.find_file(folder, file))]
    arrays = [read_array(place, dimensions) for place, dimensions in zip(paths, DIMENSIONS, strict=True)]
    for images, labels in ((0, 1), (2, 3)):
        if len(arrays[images]) != len(arrays[labels]):
            raise DataError(
                f"{paths[labels]} has {len(arrays[labels])} labels but {paths[images]} has {len(arrays[images])} "
                f"images: take both from the same source"
            )
        for extreme in (arrays[labels].min(), arrays[labels].max()):
            if not first <= extreme < first + classes:
                known = f"{first}..{first + classes - 1}"
                raise DataError(f"{paths[labels]} has the label {extreme}, {name} has {known} only")
    if arrays[0].shape[1:] != arrays[2].shape[1:]:
        sizes = [f"{rows}x{columns}" for rows, columns in (arrays[0].shape[1:], arrays[2].shape[1:])]
        raise DataError(f"{paths[0]} has images of {sizes[0]} pixels but {paths[2]} of {sizes[1]}")
    if turned:
        arrays[0], arrays[2] = arrays[0].transpose(0, 2, 1), arrays[2].transpose(0, 2, 1)
    train = len(arrays[0])
    labels = np.concatenate([arrays[1], arrays[3]]).astype(np.int32) - first
    x, test = np.concatenate([arrays[0], arrays[2]]), np.arange(train, train + len(arrays[2]))
    return dataset(x, labels, classes, test, divisor=255)


def read_array(place: Path, dimensions: int) -> np.ndarray:
    """Reads the array of unsigned bytes in an IDX file, gzip or not.

    Args:
        place: Path of the file.
        dimensions: Number of dimensions that the array must have.

    Returns:
        The array, uint8.

    Raises:
        DataError: Where the file cannot be read, is damaged, or holds another number of dimensions.
    """
    content = _files.read_bytes(place)
    header = 4 + 4 * dimensions
    magic = b"\x00\x00\x08" + bytes([dimensions])
    if content[:4] != magic:
        raise DataError(
            f"{place} has the wrong magic number {content[:4].hex() or 'nothing'}, an IDX file of "
            f"{dimensions}-dimensional unsigned bytes starts with {magic.hex()}: {WAY_OUT}"
        )
    if len(content) < header:
        raise DataError(f"{place} is truncated in its header, {len(content)} of {header} bytes: {WAY_OUT}")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    expected = math.prod(shape)
    if expected == 0:
        raise DataError(f"{place} holds no samples, its header says {'x'.join(map(str, shape))}: {WAY_OUT}")
    if len(content) - header != expected:
        problem = "is truncated" if len(content) - header < expected else "is longer than its header says"
        raise DataError(
            f"{place} {problem}: {'x'.join(map(str, shape))} is {expected} bytes, it has {len(content) - header}: "
            f"{WAY_OUT}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
