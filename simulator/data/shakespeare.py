"""The next character of what is said in Shakespeare's plays."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from byzax.simulator.data import _files, _leaf
from byzax.simulator.data.base import DataError, Dataset, dataset
from byzax.simulator.file_cache import file_cache

FILE = "shakespeare.txt"
# LEAF's eighty characters; whatever else occurs is one more
VOCABULARY = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
OTHER = len(VOCABULARY)
NUMBERS = {character: number for number, character in enumerate(VOCABULARY)}
# "First Citizen:" or "HAMLET." by itself in a line after an empty one
SPEAKER = re.compile(
    r"(?:\A|\n[ \t]*\n)[ \t]*(?!ACT\b|SCENE\b)([A-Z][\w ,.'-]{0,40}?:|[A-Z][A-Z ,'-]{0,40}\.)[ \t]*(?=\n)"
)
# typographic quotation marks and the long dash
ALIKE = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2014": "-", "\t": " "})


def shakespeare(
    *,
    root: str | None = None,
    length: int = 80,
    stride: int | None = None,
    held_out: float | None = None,
    leaf_split: bool = False,
) -> Dataset:
    """From `length` characters the next one, `[N, length]` of 81 whole numbers, by speaker.

    The text is shakespeare.txt, in `root`, in $BYZAX_DATA (itself or its sub-folder `shakespeare`) or in
    `data/shakespeare` of the cache folder: the complete works as Project Gutenberg has them, or any text in which a
    speaker stands alone in a line after an empty one, as `HAMLET.` or `First Citizen:`. What a speaker says is put
    together; a name that occurs in two plays is one speaker. A sample takes 4 bytes a character in memory. With
    leaf_split it is in place of that the JSON files which LEAF makes, in train/ and test/ of such a folder. Owners are
    the speakers, of test samples too.

    Samples: one for every `stride` characters of a speaker; the last held_out of each speaker's text is the test set
    Source: McMahan et al. 2017, experiments; Caldas et al. 2018, "LEAF" (this vocabulary; stride 1, by lines)

    Args:
        root: folder of the text; None looks further, as said above.
        length: characters of a sample.
        stride: characters from one sample to the next; None is 10.
        held_out: share of each speaker's text for the test, None is 0.1; samples that reach over the border are left
            out, as they would show the model what it is tested on.
        leaf_split: the samples of LEAF's folders train/ and test/, cut as its scripts cut them (80 characters, stride
            1); no stride and held_out then.

    Raises:
        ValueError: for an option out of range.
        DataError: where the text is missing, or too few speakers say enough.
    """
    if leaf_split:
        if stride is not None or held_out is not None:
            raise ValueError("shakespeare: with leaf_split LEAF's scripts cut the text: leave stride and held_out out")
        folder = _files.find("shakespeare", _leaf.files(True), root, origin=_leaf.origin("shakespeare"))
        return _load_leaf(folder, length)
    stride, held_out = 10 if stride is None else stride, 0.1 if held_out is None else held_out
    if length < 1 or stride < 1 or not 0 < held_out < 1:
        raise ValueError(
            "shakespeare needs length >= 1, stride >= 1 and 0 < held_out < 1, "
            f"got length={length}, stride={stride}, held_out={held_out}"
        )
    origin = (
        "It is a plain text: https://www.gutenberg.org/ebooks/100, or the input.txt of karpathy/char-rnn's "
        "tinyshakespeare, under this name"
    )
    folder = _files.find("shakespeare", (FILE,), root, origin=origin)
    place = _files.path(folder, FILE)
    assert place is not None
    return _load(place, length, stride, held_out)


@file_cache(maxsize=2)
def _load(place: Path, length: int, stride: int, held_out: float) -> Dataset:
    train: list[np.ndarray] = []
    test: list[np.ndarray] = []
    # whose each part is
    owners: tuple[list[int], list[int]] = [], []
    for speaker, said in enumerate(_speeches(place).values()):
        border = len(said) - round(held_out * len(said))
        for parts, whose, text in ((train, owners[0], said[:border]), (test, owners[1], said[border:])):
            windows = _windows(text, length, stride)
            if len(windows):
                parts.append(windows)
                whose.append(speaker)
    if not train or not test:
        raise DataError(
            f"{place}: nobody says as much as {length + 1} characters, for training and in the test share {held_out} "
            "too: is a speaker alone in a line, as HAMLET. or First Citizen:, after an empty one?"
        )
    windows = np.concatenate([*train, *test])
    count = sum(map(len, train))
    whose = np.repeat([*owners[0], *owners[1]], [len(part) for part in (*train, *test)])
    return dataset(windows[:, :-1], windows[:, -1], OTHER + 1, np.arange(count, len(windows)), whose)


@file_cache(maxsize=2)
def _load_leaf(folder: Path, length: int) -> Dataset:
    def parse(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        if any(len(sample) != length for sample in x) or any(len(character) != 1 for character in y):
            raise ValueError(f"samples of data.length {length} characters, each with the next one, are needed")
        return _numbered("".join(x)).reshape(-1, length), _numbered("".join(y))

    pool = _leaf.load("shakespeare", folder, True, parse)
    return dataset(pool.x, pool.y, OTHER + 1, pool.test, pool.owners)


def _windows(said: np.ndarray, length: int, stride: int) -> np.ndarray:
    if len(said) <= length:
        return np.empty((0, length + 1), np.int32)
    return np.lib.stride_tricks.sliding_window_view(said, length + 1)[::stride]


def _speeches(place: Path) -> dict[str, np.ndarray]:
    """What each speaker says, as numbers of characters, in the order in which they first speak."""
    text = _files.text(place).replace("\r\n", "\n").translate(ALIKE)
    pieces = SPEAKER.split(text)
    said: dict[str, list[str]] = {}
    # a piece before the first speaker, then name and speech in turn
    for name, speech in zip(pieces[1::2], pieces[2::2], strict=True):
        said.setdefault(name[:-1], []).append(speech.strip())
    return {name: _numbered("\n".join(speeches)) for name, speeches in said.items()}


def _numbered(text: str) -> np.ndarray:
    """The numbers of the characters of a text, int32."""
    return np.array([NUMBERS.get(character, OTHER) for character in text.translate(ALIKE)], np.int32)
