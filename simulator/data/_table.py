"""Tables of your own: columns of numbers and words, from CSV to arrays."""

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
from byzax.simulator.mistakes import quote, shorten

# What pandas reads as a number, in a column that holds nothing else.
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


def read_csv(place: Path, names: list[str] | None = None) -> Any:
    """Reads a CSV file, gzip or not.

    Args:
        place: Path of the file.
        names: Names of the columns; None reads them from the first line.

    Returns:
        A data frame, whose index holds the number of each line in the file.

    Raises:
        DataError: Where the file cannot be read or is not such a table.
    """
    # here, not above: pandas takes a while to import and only tables need it
    import pandas

    text = _files.read_text(place)
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
        reason = _describe_long_lines(text, len(names) if names else None) or shorten(str(error), 200)
        raise DataError(f"{place} is no CSV with a line of column names: {reason}") from error
    if not len(frame):
        raise DataError(f"{place} holds no line after its column names")
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


def _describe_long_lines(text: str, columns: int | None) -> str:
    """A message about lines with more values than there are columns; empty where there are none."""
    lines = csv.reader(io.StringIO(text))
    try:
        lengths = [(lines.line_num, len(line)) for line in lines]
    except csv.Error:
        return ""
    columns = columns or (lengths[0][1] if lengths else 0)
    longer = [(number, count) for number, count in lengths if count > columns]
    if not longer:
        return ""
    number, count = longer[0]
    return (
        f"{len(longer)} of {len(lengths)} lines have more values than there are columns ({columns}), such as line "
        f"{number} ({count} values): a comma inside a word needs quotes around it, and decimals have a point"
    )


def convert_large_numbers(frame: Any, names: Sequence[str] = ()) -> Any:
    """Converts columns that pandas holds as words, because of whole numbers beyond 64 bits, to numbers.

    Args:
        frame: The table.
        names: Columns whose values are labels or owners; these stay as they are, since two large numbers may be the
            same float.

    Returns:
        The table.
    """

    def number(word: Any) -> float:
        # float fails for a Python integer beyond all floats, and gives infinity for its digits
        return float(str(word))

    large = [
        column
        for column in frame
        if column not in names
        and not is_numeric(frame[column])
        and all(NUMBER.fullmatch(str(word)) for word in frame[column].unique())
    ]
    return frame.assign(**{column: frame[column].map(number).astype(float) for column in large})


def check_values(place: Path, frame: Any, numbers: Sequence[str] = (), names: Sequence[str] = ()) -> None:
    """Raises DataError, naming line and column, for a value that is missing, not finite, or beyond float32.

    Args:
        place: Path of the file, for messages.
        frame: The table.
        numbers: Columns that must hold numbers.
        names: Columns whose values are labels or owners, and may be numbers of any size.
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
    """Tells whether a column holds numbers."""
    import pandas

    return pandas.api.types.is_numeric_dtype(values)


def concatenate(frames: list[Any]) -> Any:
    """Joins tables of the same columns, one after the other."""
    import pandas

    return pandas.concat(frames, ignore_index=True)


def features(place: Path, frame: Any, left_out: Sequence[str] = ()) -> np.ndarray:
    """Converts a table to numbers, a column of words to one column of 0 and 1 for each word.

    Args:
        place: Path of the file, for messages.
        frame: The table.
        left_out: Columns that are no features.

    Returns:
        Features `[N, p]`, float32.

    Raises:
        DataError: Where no column is left, or there would be too many numbers.
    """
    import pandas

    chosen = frame.drop(columns=list(left_out))
    if not len(chosen.columns):
        raise DataError(f"{place} has no column beside {_files.join_words(left_out)}")
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
    """A line about the columns that hold words, with their numbers of different words; none without such columns."""
    said = []
    for column in frame.drop(columns=list(left_out)):
        if not is_numeric(frame[column]):
            words = frame[column].unique()
            others = [word for word in words if not NUMBER.fullmatch(str(word))]
            # a single ? among numbers is enough for pandas to hold the whole column as words
            odd = f", numbers but for {quote(str(others[0]))}" if 0 < 2 * len(others) < len(words) else ""
            said.append(f"{column} ({len(words)}{odd})")
    return (f"words, each a column of 0 and 1, in {shorten(_files.join_words(said), 300)}",) if said else ()


def check_same_types(first_place: Path, first: Any, place: Path, frame: Any) -> None:
    """Raises DataError where a column holds numbers in one table and words in the other."""
    for column in frame:
        if is_numeric(frame[column]) != is_numeric(first[column]):
            raise DataError(
                f"{place}: {column} holds {type_name(frame[column])}, and in {first_place} {type_name(first[column])}: "
                "bring them to one type"
            )


def type_name(column: Any) -> str:
    """The type of a column's numbers, or "words"."""
    return str(column.dtype) if is_numeric(column) else "words"


def number_values(values: Any) -> np.ndarray:
    """Numbers the different values of a column in their order, from 0 on: `[N]`, int32."""
    return np.unique(values.to_numpy(), return_inverse=True)[1].astype(np.int32)
