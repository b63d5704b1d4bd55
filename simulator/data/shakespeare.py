"""Shakespeare (McMahan et al. 2017): the next character of what is said in the plays, by speaker."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from byzax.options import OptionError, checked
from byzax.simulator.data import _files, _leaf
from byzax.simulator.data.base import Count, DataError, Dataset, OpenShare, dataset
from byzax.simulator.file_cache import file_cache

FILE = "shakespeare.txt"
# LEAF's eighty characters; all others share one more number
VOCABULARY = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
OTHER = len(VOCABULARY)
NUMBERS = {character: number for number, character in enumerate(VOCABULARY)}
# "First Citizen:" or "HAMLET." by itself in a line after an empty one
SPEAKER = re.compile(
    r"(?:\A|\n[ \t]*\n)[ \t]*(?!ACT\b|SCENE\b)([A-Z][\w ,.'-]{0,40}?:|[A-Z][A-Z ,'-]{0,40}\.)[ \t]*(?=\n)"
)
# typographic quotation marks and the long dash
ALIKE = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2014": "-", "\t": " "})


@checked
def shakespeare(
    *,
    root: str | None = None,
    length: Count = 80,
    stride: Count | None = None,
    held_out: OpenShare | None = None,
    leaf_split: bool = False,
) -> Dataset:
    """Predicts from `length` characters the next one, `[N, length]` of 81 whole numbers, by speaker.

    The text is shakespeare.txt, in `root`, or without one in $BYZAX_DATA (itself or its sub-folder `shakespeare`), else
    in `data/shakespeare` of the cache folder: the complete works as Project Gutenberg has them, or any text in which a
    speaker stands alone in a line after an empty one, as `HAMLET.` or `First Citizen:`. All that a speaker says is
    joined; a name that occurs in two plays is one speaker. A sample takes 4 bytes a character in memory. With
    `leaf_split` the JSON files that LEAF makes are read instead, in train/ and test/ of such a folder. Owners are the
    speakers, of test samples too.

    Samples: one for every `stride` characters of a speaker; the last held_out of each speaker's text is the test set

    Args:
        root: Folder of the text. None: $BYZAX_DATA, else the cache folder.
        length: Number of characters of a sample.
        stride: Number of characters from one sample to the next. None: 10.
        held_out: Share of each speaker's text for the test; samples that reach over the border are left out, as they
            would show the model what it is tested on. None: 0.1.
        leaf_split: Whether to take the samples of LEAF's folders train/ and test/, cut as its scripts cut them (80
            characters, stride 1); `stride` and `held_out` are refused then.

    Returns:
        The data set.

    Raises:
        OptionError: For an option out of its range, or `stride` or `held_out` beside `leaf_split`.
        DataError: Where the text is missing, or too few speakers say enough.

    References:
        McMahan et al. 2017, experiments; Caldas et al. 2018, "LEAF" (this vocabulary; stride 1, by lines)
    """
    if leaf_split:
        for option, value in (("stride", stride), ("held_out", held_out)):
            if value is not None:
                raise OptionError(
                    option, f"must be left out with leaf_split, as LEAF's scripts cut the text, got {value}"
                )
        folder = _files.find_folder("shakespeare", _leaf.file_patterns(True), root, origin=_leaf.origin("shakespeare"))
        return _load_leaf(folder, length)
    stride, held_out = 10 if stride is None else stride, 0.1 if held_out is None else held_out
    origin = (
        "It is a plain text: https://www.gutenberg.org/ebooks/100, or the input.txt of karpathy/char-rnn's "
        "tinyshakespeare, under this name"
    )
    folder = _files.find_folder("shakespeare", (FILE,), root, origin=origin)
    place = _files.find_file(folder, FILE)
    assert place is not None
    return _load(place, length, stride, held_out)


@file_cache(maxsize=2)
def _load(place: Path, length: int, stride: int, held_out: float) -> Dataset:
    train: list[np.ndarray] = []
    test: list[np.ndarray] = []
    # the speaker of each part
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
        return _encode("".join(x)).reshape(-1, length), _encode("".join(y))

    pool = _leaf.load("shakespeare", folder, True, parse)
    return dataset(pool.x, pool.y, OTHER + 1, pool.test, pool.owners)


def _windows(said: np.ndarray, length: int, stride: int) -> np.ndarray:
    if len(said) <= length:
        return np.empty((0, length + 1), np.int32)
    return np.lib.stride_tricks.sliding_window_view(said, length + 1)[::stride]


def _speeches(place: Path) -> dict[str, np.ndarray]:
    """Reads the text of each speaker, as numbers of characters, in the order in which they first speak."""
    text = _files.read_text(place).replace("\r\n", "\n").translate(ALIKE)
    pieces = SPEAKER.split(text)
    said: dict[str, list[str]] = {}
    # a piece before the first speaker, then name and speech in turn
    for name, speech in zip(pieces[1::2], pieces[2::2], strict=True):
        said.setdefault(name[:-1], []).append(speech.strip())
    return {name: _encode("\n".join(speeches)) for name, speeches in said.items()}


def _encode(text: str) -> np.ndarray:
    """Numbers the characters of a text, int32."""
    return np.array([NUMBERS.get(character, OTHER) for character in text.translate(ALIKE)], np.int32)
