"""Handwritten characters by writer, 28x28 pixels."""

import json
from pathlib import Path

import numpy as np

from simulator.data import _files
from simulator.data._files import WAY_OUT
from simulator.data.base import DataError, Dataset, dataset
from simulator.file_cache import file_cache

FILES = "all_data_*.json"
CLASSES, SIDE = 62, 28


def femnist(*, root: str | None = None, writers: int | None = None) -> Dataset:
    """FEMNIST, `[N, 28, 28]` in [0, 1], characters by some 3,600 writers, from the JSON files that LEAF makes.

    Paper is 1 and ink 0 there, the other way round than in mnist. LEAF's paper counts 805,263 samples of 3,550 writers,
    and its scripts make some more.

    LEAF's scripts write all_data_0.json and so on (`data/femnist/preprocess.sh` in its repository); there is no
    download of them. They are looked for in `root`, then in $BYZAX_DATA (itself or its sub-folder `femnist`), then in
    `data/femnist` of the cache folder. Owners are the writers: share them out with the partition by_writer. In memory
    all of it takes 2.5 GB, and about 1 GB more while one file is read.

    Samples: about 227 for each writer, of 62 labels (digits, capital and small letters), no test set of its own
    Source: Caldas et al. 2018, "LEAF: a benchmark for federated settings"

    Args:
        root: folder of the files; None looks further, as said above.
        writers: the first so many of the files only; None takes all.

    Raises:
        ValueError: for writers < 1.
        DataError: where files are missing or damaged, or hold fewer writers.
    """
    if writers is not None and writers < 1:
        raise ValueError(f"femnist needs writers >= 1, or null for all of them, got {writers}")
    origin = "LEAF makes them: data/femnist/preprocess.sh of https://github.com/TalwalkarLab/leaf"
    return _load(_files.find("femnist", (FILES,), root, origin=origin), writers)


@file_cache(maxsize=2)
def _load(folder: Path, writers: int | None) -> Dataset:
    images, labels = [], []
    # all_data_10 comes after all_data_9
    for place in sorted(_files.paths(folder, FILES), key=lambda place: (len(place.name), place.name)):
        for x, y in _read(place):
            if writers is None or len(labels) < writers:
                images.append(x)
                labels.append(y)
        if writers is not None and len(labels) == writers:
            break
    if writers is not None and len(labels) < writers:
        raise DataError(f"femnist: the files of {folder} hold {len(labels)} writers, and data.writers is {writers}")
    owners = np.repeat(np.arange(len(labels)), [len(y) for y in labels])
    return dataset(np.concatenate(images), np.concatenate(labels), CLASSES, owners=owners)


def _read(place: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images `[m, 28, 28]` and labels `[m]` of each writer of a file."""
    try:
        held = json.loads(_files.text(place))
        found = []
        for user in held["users"]:
            x = np.array(held["user_data"][user]["x"], np.float32)
            y = np.array(held["user_data"][user]["y"])
            found.append((x.reshape(-1, SIDE, SIDE), y))
            if len(x) != len(y) or y.dtype.kind != "i" or not len(y) or y.min() < 0 or y.max() >= CLASSES:
                raise ValueError(f"writer {user}: a label in 0..{CLASSES - 1} is needed for each image")
    except DataError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise DataError(f"{place} is no file of LEAF's FEMNIST, or damaged: {what}: {WAY_OUT}") from error
    if not found:
        raise DataError(f"{place} holds no writer: {WAY_OUT}")
    return found
