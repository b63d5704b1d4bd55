"""The JSON format of LEAF: samples by user, all together or split into train/ and test/."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from byzax.simulator.data import _files
from byzax.simulator.data._files import WAY_OUT
from byzax.simulator.data.base import DataError
from byzax.simulator.mistakes import shorten

# LEAF's scripts write all samples first; utils/split_data.py then writes its split into train and test
ALL, SPLIT = "all_data_*.json|all_data/all_data_*.json", ("train/*.json", "test/*.json")


def file_patterns(split: bool) -> tuple[str, ...]:
    """The patterns of the files that `load` reads."""
    return SPLIT if split else (ALL,)


def origin(name: str) -> str:
    """A sentence that says where a person finds the files of a data set."""
    return (
        f"LEAF makes them: data/{name}/preprocess.sh of https://github.com/TalwalkarLab/leaf. Its train/ and test/ are "
        "read with data.leaf_split: true, all_data_*.json without"
    )


class Pool(NamedTuple):
    """The samples of all users, in the order of the files.

    Attributes:
        x: Samples `[N, ...]`.
        y: Labels `[N]`.
        owners: Number of each sample's user, `[N]`.
        test: Positions of the test samples; None without a split.
    """

    x: np.ndarray
    y: np.ndarray
    owners: np.ndarray
    test: np.ndarray | None


class ParseUser(Protocol):
    """The conversion of a user's samples from JSON to arrays."""

    def __call__(self, x: Any, y: Any, /) -> tuple[np.ndarray, np.ndarray]:
        """Converts the entries `x` and `y` of a user.

        Returns:
            Samples `[m, ...]` and labels `[m]`.

        Raises:
            ValueError: Where they do not hold what is needed.
        """
        ...


def load(name: str, folder: Path, split: bool, parse: ParseUser, users: int | None = None) -> Pool:
    """Reads the samples in a folder of LEAF's files.

    Args:
        name: Name of the data set, for messages.
        folder: Folder of the files.
        split: Whether training and test samples are those of train/ and test/; else the files of all samples are read.
        parse: Converts a user's samples.
        users: Number of training users, the first ones of the files, and of the test samples theirs; where none of
            these has test samples, as in a split by users, those of all test users. None takes all users.

    Returns:
        The samples.

    Raises:
        DataError: Where a file is damaged, or there are fewer users.
    """
    numbers: dict[str, int] = {}
    train = list(_take_users(_read_users(name, folder, SPLIT[0] if split else ALL, parse), numbers, users))
    if users is not None and len(numbers) < users:
        raise DataError(f"{name}: the files of {folder} hold {len(numbers)} writers, and data.writers is {users}")
    if not split:
        return _join(train, None)
    known = set(numbers)
    test = [(user, *held) for user, *held in _read_users(name, folder, SPLIT[1], parse)]
    if users is not None and (known_test := [each for each in test if each[0] in known]):
        test = known_test
    return _join(train, list(_take_users(iter(test), numbers, None)))


def _take_users(parts: Iterator[Any], numbers: dict[str, int], users: int | None) -> Iterator[tuple[int, Any, Any]]:
    """The samples of the first users, each with the user's number; adds those of new users to `numbers`."""
    for user, x, y in parts:
        if user not in numbers and users is not None and len(numbers) == users:
            return
        yield numbers.setdefault(user, len(numbers)), x, y


def _join(train: list[Any], test: list[Any] | None) -> Pool:
    parts = [*train, *(test or [])]
    owners, x, y = zip(*parts, strict=True)
    count, whole = sum(len(labels) for *_, labels in train), sum(map(len, y))
    if len({each.shape[1:] for each in x}) > 1:
        raise DataError(f"samples of several sizes: {_files.join_words({str(list(each.shape[1:])) for each in x})}")
    return Pool(
        np.concatenate(x),
        np.concatenate(y),
        np.repeat(owners, [len(labels) for labels in y]),
        None if test is None else np.arange(count, whole),
    )


def _read_users(
    name: str, folder: Path, pattern: str, parse: ParseUser
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Reads the files of a pattern: yields each user with samples and labels."""
    # all_data_10 comes after all_data_9
    for place in sorted(_files.find_files(folder, pattern), key=lambda place: (len(place.name), place.name)):
        user = None
        try:
            held = json.loads(_files.read_text(place))
            users = []
            for user in held["users"]:
                x, y = parse(held["user_data"][user]["x"], held["user_data"][user]["y"])
                if x.shape[:1] != y.shape or not len(y):
                    raise ValueError(f"{len(x)} samples with {y.size} labels")
                users.append((str(user), x, y))
        except DataError:
            raise
        except Exception as error:  # whatever Python and NumPy make of JSON of another shape
            what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
            whose = "" if user is None else f"writer {shorten(str(user))}: "
            raise DataError(
                f"{place} is no file of LEAF's {name}, or damaged: {whose}{shorten(what, 200)}: {WAY_OUT}"
            ) from error
        if not users:
            raise DataError(f"{place} holds no writer: {WAY_OUT}")
        yield from users
