"""Tables: columns of numbers and words, one of which is to be predicted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simulator.data import _files
from simulator.data.base import DataError, too_large


def read(place: Path, names: list[str] | None = None) -> Any:
    """The table in a CSV file, gzip or not, as a data frame; `names` of the columns where its first line holds none.

    Raises DataError, naming the file.
    """
    # here, not above: pandas takes a while to import and only tables need it
    import io

    import pandas

    try:
        text = _files.text(place)
        if names is None:
            # pandas would rename the second of two, and a target would be among the features
            first = [str(name).strip() for name in pandas.read_csv(io.StringIO(text), header=None, nrows=1).iloc[0]]
            if twice := [name for name in first if first.count(name) > 1]:
                raise DataError(f"{place}: column {twice[0]!r} stands twice in the first line: rename one of the two")
        frame = pandas.read_csv(io.StringIO(text), names=names, skipinitialspace=True)
    except (ValueError, pandas.errors.ParserError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{place} is no CSV with a line of column names: {' '.join(str(error).split())}") from error
    if not len(frame):
        raise DataError(f"{place} holds no line after its column names")
    # the number of each line in the file
    frame.index += 1 if names else 2
    return frame


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
    words = [column for column in chosen if not is_numeric(chosen[column])]
    return pandas.get_dummies(chosen, columns=words).to_numpy(np.float32)


def numbered(values: Any) -> tuple[np.ndarray, int]:
    """The numbers `[N]` of values in their order, 0, 1, ..., and how many there are."""
    known, numbers = np.unique(values.to_numpy(), return_inverse=True)
    return numbers.astype(np.int32), len(known)
