"""The binary format of CIFAR: for each image its labels and its pixels, one colour after the other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from byzax.simulator.data import _files
from byzax.simulator.data._files import WAY_OUT
from byzax.simulator.data.base import DataError, Dataset, dataset
from byzax.simulator.file_cache import file_cache

SIDE, COLOURS = 32, 3
PIXELS = SIDE * SIDE * COLOURS


@file_cache(maxsize=2)
def load(name: str, folder: Path, train: Sequence[str], test: str, labels: int, label: int, classes: int) -> Dataset:
    """Reads a data set in the binary format of CIFAR.

    Args:
        name: Name of the data set, for messages.
        folder: Folder of the files.
        train: Files of the training samples.
        test: File of the test samples.
        labels: Number of bytes before each image, each of them a label.
        label: The one of these that is the label of the data set.
        classes: Number of labels.

    Returns:
        Images `[N, 32, 32, 3]` in [0, 1] and their labels.

    Raises:
        DataError: Where a file is damaged.
    """
    places = [place for file in (*train, test) if (place := _files.find_file(folder, file))]
    parts = [_rows(name, place, labels, label, classes) for place in places]
    # written once: a copy of all of it would take as much memory again
    x = np.empty((sum(map(len, parts)), SIDE, SIDE, COLOURS), np.uint8)
    start = 0
    for rows in parts:
        x[start : start + len(rows)] = rows[:, labels:].reshape(-1, COLOURS, SIDE, SIDE).transpose(0, 2, 3, 1)
        start += len(rows)
    y = np.concatenate([rows[:, label] for rows in parts])
    return dataset(x, y, classes, np.arange(len(x) - len(parts[-1]), len(x)), divisor=255)


def _rows(name: str, place: Path, labels: int, label: int, classes: int) -> np.ndarray:
    content = _files.read_bytes(place)
    if not content or len(content) % (labels + PIXELS):
        raise DataError(
            f"{place} is no whole number of images: {len(content)} bytes, and an image of {name} has "
            f"{labels + PIXELS}: {WAY_OUT}"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, labels + PIXELS)
    if rows[:, label].max() >= classes:
        raise DataError(f"{place} has the label {rows[:, label].max()}, {name} has 0..{classes - 1} only: {WAY_OUT}")
    return rows
