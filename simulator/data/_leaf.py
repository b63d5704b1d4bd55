"""The JSON files of LEAF: samples by user, all together or split into train/ and test/."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from byzax.simulator.data import _files
from byzax.simulator.data._files import WAY_OUT
from byzax.simulator.data.base import DataError
from byzax.simulator.mistakes import cut

# what LEAF's scripts write: everything, and below train and test what utils/split_data.py makes of it
ALL, SPLIT = "all_data_*.json|all_data/all_data_*.json", ("train/*.json", "test/*.json")


def files(split: bool) -> tuple[str, ...]:
    """The patterns of the files that are read."""
    return SPLIT if split else (ALL,)


def origin(name: str) -> str:
    """The place where a person finds the files of this data set."""
    return (
        f"LEAF makes them: data/{name}/preprocess.sh of https://github.com/TalwalkarLab/leaf. Its train/ and test/ are "
        "read with data.leaf_split: true, all_data_*.json without"
    )


class Pool(NamedTuple):
    """Samples `[N, ...]`, labels `[N]`, owners `[N]` in the order of the files, and positions of the test samples."""

    x: np.ndarray
    y: np.ndarray
    owners: np.ndarray
    test: np.ndarray | None


# what a user's entries x and y hold, as arrays [m, ...] and [m]; ValueError for what will not do
Parse = Callable[[Any, Any], tuple[np.ndarray, np.ndarray]]


def load(name: str, folder: Path, split: bool, parse: Parse, users: int | None = None) -> Pool:
    """The samples in a folder of LEAF's files.

    Args:
        name: of the data set, for messages.
        folder: that holds them.
        split: whether training and test samples are those of train/ and test/; else the files of all samples are read.
        parse: a user's samples.
        users: the first so many training users alone, and of the test samples theirs; where none of these has test
            samples, as in a split by users, those of all test users.

    Raises:
        DataError: naming the file, where it is damaged; and where there are fewer users.
    """
    numbers: dict[str, int] = {}
    train = list(_some(_parts(name, folder, SPLIT[0] if split else ALL, parse), numbers, users))
    if users is not None and len(numbers) < users:
        raise DataError(f"{name}: the files of {folder} hold {len(numbers)} writers, and data.writers is {users}")
    if not split:
        return _joined(train, None)
    known = set(numbers)
    test = [(user, *held) for user, *held in _parts(name, folder, SPLIT[1], parse)]
    if users is not None and (mine := [each for each in test if each[0] in known]):
        test = mine
    return _joined(train, list(_some(iter(test), numbers, None)))


def _some(parts: Iterator[Any], numbers: dict[str, int], users: int | None) -> Iterator[tuple[int, Any, Any]]:
    """The parts of the first users, each with the user's number; `numbers` gets those of new users."""
    for user, x, y in parts:
        if user not in numbers and users is not None and len(numbers) == users:
            return
        yield numbers.setdefault(user, len(numbers)), x, y


def _joined(train: list[Any], test: list[Any] | None) -> Pool:
    parts = [*train, *(test or [])]
    owners, x, y = zip(*parts, strict=True)
    count, whole = sum(len(labels) for *_, labels in train), sum(map(len, y))
    if len({each.shape[1:] for each in x}) > 1:
        raise DataError(f"samples of several sizes: {_files.listed({str(list(each.shape[1:])) for each in x})}")
    return Pool(
        np.concatenate(x),
        np.concatenate(y),
        np.repeat(owners, [len(labels) for labels in y]),
        None if test is None else np.arange(count, whole),
    )


def _parts(name: str, folder: Path, pattern: str, parse: Parse) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each user of the files with a name of this pattern, with samples and labels."""
    # all_data_10 comes after all_data_9
    for place in sorted(_files.paths(folder, pattern), key=lambda place: (len(place.name), place.name)):
        user = None
        try:
            held = json.loads(_files.text(place))
            found = []
            for user in held["users"]:
                x, y = parse(held["user_data"][user]["x"], held["user_data"][user]["y"])
                if x.shape[:1] != y.shape or not len(y):
                    raise ValueError(f"{len(x)} samples with {y.size} labels")
                found.append((str(user), x, y))
        except DataError:
            raise
        except Exception as error:  # whatever Python and NumPy make of JSON of another shape
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            whose = "" if user is None else f"writer {cut(str(user))}: "
            raise DataError(
                f"{place} is no file of LEAF's {name}, or damaged: {whose}{cut(what, 200)}: {WAY_OUT}"
            ) from error
        if not found:
            raise DataError(f"{place} holds no writer: {WAY_OUT}")
        yield from found
