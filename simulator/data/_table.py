"""Tables: columns of numbers and words, one of which is to be predicted."""

import csv
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from byzax.simulator.data import _files
from byzax.simulator.data.base import LARGEST, DataError, too_large
from byzax.simulator.mistakes import cut, shown

# What pandas reads as a number, in a column in which all are such.
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


def read(place: Path, names: list[str] | None = None) -> Any:
    """The table in a CSV file, gzip or not, as a data frame; `names` of the columns where its first line holds none.

    Raises DataError, naming the file.
    """
    # here, not above: pandas takes a while to import and only tables need it
    import pandas

    text = _files.text(place)
    try:
        with warnings.catch_warnings():
            # of lines that are longer than the first it would drop a column
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            if names is None:
                _check_names(place, pandas.read_csv(io.StringIO(text), header=None, nrows=1, dtype=str).iloc[0])
            # with low_memory a column could hold numbers in some blocks of lines and words in others
            frame = pandas.read_csv(
                io.StringIO(text), names=names, skipinitialspace=True, index_col=False, low_memory=False
            )
    except DataError:
        raise
    except Exception as error:  # whatever pandas makes of a text that is no table
        reason = _longer(text, len(names) if names else None) or cut(str(error), 200)
        raise DataError(f"{place} is no CSV with a line of column names: {reason}") from error
    if not len(frame):
        raise DataError(f"{place} holds no line after its column names")
    # the number of each line in the file
    frame.index += 1 if names else 2
    return frame


def _check_names(place: Path, first: Any) -> None:
    """Raises DataError unless the names in the first line are different ones, none empty."""
    names = ["" if isinstance(name, float) else str(name).strip() for name in first]
    # pandas would rename the second of two, and a target would be among the features
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise DataError(f"{place}: column {twice[0]!r} stands twice in the first line: rename one of the two")
    if "" in names:
        raise DataError(
            f"{place}: column {names.index('') + 1} has no name in the first line: name it, or, if these are "
            "numbers of lines that pandas wrote, save with to_csv(index=False)"
        )


def _longer(text: str, columns: int | None) -> str:
    """The first line with more values than there are columns, and how many such there are; empty without one."""
    lines = csv.reader(io.StringIO(text))
    try:
        found = [(lines.line_num, len(line)) for line in lines]
    except csv.Error:
        return ""
    columns = columns or (found[0][1] if found else 0)
    longer = [(number, count) for number, count in found if count > columns]
    if not longer:
        return ""
    number, count = longer[0]
    return (
        f"{len(longer)} of {len(found)} lines have more values than there are columns ({columns}), such as line "
        f"{number} ({count} values): a comma inside a word needs quotes around it, and decimals have a point"
    )


def with_numbers(frame: Any, names: Sequence[str] = ()) -> Any:
    """The table with numbers in columns in which pandas sees words for whole numbers beyond 64 bits.

    Columns of `names` stay as they are: two large numbers may be one and the same float.
    """

    def number(word: Any) -> float:
        # of a Python integer beyond all floats float would fail, of its digits it gives infinity
        return float(str(word))

    large = [
        column
        for column in frame
        if column not in names
        and not is_numeric(frame[column])
        and all(NUMBER.fullmatch(str(word)) for word in frame[column].unique())
    ]
    return frame.assign(**{column: frame[column].map(number).astype(float) for column in large})


def check(place: Path, frame: Any, numbers: Sequence[str] = (), names: Sequence[str] = ()) -> None:
    """Raises DataError, naming line and column, where a value is missing, not finite or not to be held in float32.

    Columns of `numbers` must hold such; those of `names` are told apart and not reckoned with, and may be of any size.
    """
    for column in frame:
        numeric = is_numeric(frame[column])
        if column in numbers and not numeric:
            raise DataError(f"{place}: {column} must hold numbers, and holds words too, or the decimals have no point")
        whole = (np.isfinite(frame[column]) if numeric else frame[column].notna()).to_numpy()
        if not whole.all():
            line = frame.index[int(np.argmin(whole))]
            raise DataError(f"{place}: line {line}: {column} is missing or not finite: fill it or remove the line")
        if numeric and column not in names:
            large = too_large(frame[column].to_numpy())
            if large.any():
                first = int(np.argmax(large))
                raise DataError(
                    f"{place}: line {frame.index[first]}: {column} is {frame[column].iloc[first]:g}, and "
                    "numbers are kept as float32, up to 3.4e38: bring the column to another unit"
                )


def is_numeric(values: Any) -> bool:
    """Whether a column holds numbers."""
    import pandas

    return pandas.api.types.is_numeric_dtype(values)


def joined(frames: list[Any]) -> Any:
    """The lines of several tables, one after the other."""
    import pandas

    return pandas.concat(frames, ignore_index=True)


def features(place: Path, frame: Any, left_out: Sequence[str] = ()) -> np.ndarray:
    """Numbers `[N, p]`, float32: the columns but for those left out, words as one column of 0 and 1 for each of them.

    Raises DataError where no column is left.
    """
    import pandas

    chosen = frame.drop(columns=list(left_out))
    if not len(chosen.columns):
        raise DataError(f"{place} has no column beside {_files.listed(left_out)}")
    words = {column: chosen[column].nunique() for column in chosen if not is_numeric(chosen[column])}
    columns = len(chosen.columns) - len(words) + sum(words.values())
    if columns * len(chosen) > LARGEST:
        most = max(words, key=words.__getitem__, default=chosen.columns[0])
        raise DataError(
            f"{place}: {len(chosen)} lines of {columns} columns are more than {LARGEST} numbers: {most} has "
            f"{words.get(most, 1)} different words, a column of 0 and 1 for each: leave it out with data.drop: [{most}]"
        )
    return pandas.get_dummies(chosen, columns=[*words]).to_numpy(np.float32)


def describe_words(frame: Any, left_out: Sequence[str] = ()) -> tuple[str, ...]:
    """A line about the columns that hold words, with how many different ones; none where there are no such columns."""
    said = []
    for column in frame.drop(columns=list(left_out)):
        if not is_numeric(frame[column]):
            words = frame[column].unique()
            others = [word for word in words if not NUMBER.fullmatch(str(word))]
            # one word such as ? is enough to make words of a column of numbers
            odd = f", numbers but for {shown(str(others[0]))}" if 0 < 2 * len(others) < len(words) else ""
            said.append(f"{column} ({len(words)}{odd})")
    return (f"words, each a column of 0 and 1, in {cut(_files.listed(said), 300)}",) if said else ()


def check_alike(first_place: Path, first: Any, place: Path, frame: Any) -> None:
    """Raises DataError where a column holds numbers in one table and words in the other."""
    for column in frame:
        if is_numeric(frame[column]) != is_numeric(first[column]):
            raise DataError(
                f"{place}: {column} holds {kind(frame[column])}, and in {first_place} {kind(first[column])}: "
                "bring them to one type"
            )


def kind(column: Any) -> str:
    """The kind of a column: the type of its numbers, or words."""
    return str(column.dtype) if is_numeric(column) else "words"


def numbered(values: Any) -> np.ndarray:
    """The numbers `[N]` of values in their order, 0, 1, ..."""
    return np.unique(values.to_numpy(), return_inverse=True)[1].astype(np.int32)
