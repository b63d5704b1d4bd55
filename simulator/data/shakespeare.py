"""The next character of what is said in Shakespeare's plays."""

import re
from pathlib import Path

import numpy as np

from simulator.data import _files
from simulator.data.base import DataError, Dataset, dataset
from simulator.file_cache import file_cache

FILE = "shakespeare.txt"
# LEAF's eighty characters; whatever else occurs is one more
VOCABULARY = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
OTHER = len(VOCABULARY)
# "First Citizen:" or "HAMLET." by itself in a line after an empty one
SPEAKER = re.compile(
    r"(?:\A|\n[ \t]*\n)[ \t]*(?!ACT\b|SCENE\b)([A-Z][\w ,.'-]{0,40}?:|[A-Z][A-Z ,'-]{0,40}\.)[ \t]*(?=\n)"
)
# typographic quotation marks and the long dash
ALIKE = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2014": "-", "\t": " "})


def shakespeare(*, root: str | None = None, length: int = 80, stride: int = 10, held_out: float = 0.1) -> Dataset:
    """From `length` characters the next one, `[N, length]` of 81 whole numbers, by speaker.

    The text is shakespeare.txt, in `root`, in $BYZAX_DATA (itself or its sub-folder `shakespeare`) or in
    `data/shakespeare` of the cache folder: the complete works as Project Gutenberg has them, or any text in which a
    speaker stands alone in a line after an empty one, as `HAMLET.` or `First Citizen:`. What a speaker says is put
    together; a name that occurs in two plays is one speaker. A sample takes 4 bytes a character in memory.

    Samples: one for every `stride` characters of a speaker; the last held_out of each speaker's text is the test set
    Source: McMahan et al. 2017, experiments; Caldas et al. 2018, "LEAF" (this vocabulary; stride 1, by lines)

    Args:
        root: folder of the text; None looks further, as said above.
        length: characters of a sample.
        stride: characters from one sample to the next.
        held_out: share of each speaker's text for the test; samples that reach over the border are left out, as they
            would show the model what it is tested on.

    Raises:
        ValueError: for an option out of range.
        DataError: where the text is missing, or too few speakers say enough.
    """
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
    owners: list[np.ndarray] = []
    for said in _speeches(place).values():
        border = len(said) - round(held_out * len(said))
        parts = [_windows(part, length, stride) for part in (said[:border], said[border:])]
        if len(parts[0]):
            owners.append(np.full(len(parts[0]), len(train)))
            train.append(parts[0])
        if len(parts[1]):
            test.append(parts[1])
    if not train or not test:
        raise DataError(
            f"{place}: nobody says as much as {length + 1} characters, for training and in the test share {held_out} "
            "too: is a speaker alone in a line, as HAMLET. or First Citizen:, after an empty one?"
        )
    windows = np.concatenate([*train, *test])
    count = sum(map(len, train))
    # nobody trains on test samples: whose they are does not matter
    whose = np.concatenate([*owners, np.full(len(windows) - count, -1)])
    return dataset(windows[:, :-1], windows[:, -1], OTHER + 1, np.arange(count, len(windows)), whose)


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
    numbers = {ord(character): number for number, character in enumerate(VOCABULARY)}
    return {
        name: np.array([numbers.get(ord(character), OTHER) for character in "\n".join(speeches)], np.int32)
        for name, speeches in said.items()
    }
