"""A table of your own."""

from pathlib import Path
from typing import Literal

import numpy as np

from simulator.data import _files, _table
from simulator.data.base import DataError, Dataset, dataset
from simulator.file_cache import file_cache


def csv(
    *,
    path: str,
    target: str,
    task: Literal["classification", "regression"] = "classification",
    owner: str | None = None,
    test_path: str | None = None,
) -> Dataset:
    """A CSV file (gzip or not) with column names in its first line, `[N, columns]`.

    Columns of words become one column of 0 and 1 for each word. A label may be a number or a word; labels are numbered
    in their order. `normalise: per_feature` brings columns to one scale.

    Samples: those of the file, no test set of its own unless test_path names one
    Source: yours

    Args:
        path: of the file; relative to the folder that byzax is started in, or to $BYZAX_DATA.
        target: name of the column to predict.
        task: whether the target is a label or a value.
        owner: name of a column that says whose each sample is, for the partition by_writer; no feature then.
        test_path: of a file with the same columns, whose samples are the test set.

    Raises:
        ValueError: for an unknown task.
        DataError: where a file is missing, is no table, lacks a column or a value, holds a label that is no number, or
            a number beyond float32.
    """
    if task not in ("classification", "regression"):
        raise ValueError(f'csv has the tasks "classification" and "regression", got {task!r}')
    places = [_files.given("csv", "path", path)]
    if test_path is not None:
        places.append(_files.given("csv", "test_path", test_path))
    return _load(tuple(places), target, task == "classification", owner)


@file_cache(maxsize=4)
def _load(places: tuple[Path, ...], target: str, labelled: bool, owner: str | None) -> Dataset:
    frames = [_table.read(place) for place in places]
    special = [target, *([owner] if owner else [])]
    for place, frame in zip(places, frames, strict=True):
        if missing := [column for column in special if column not in frame]:
            raise DataError(f"{place} has no column {missing[0]!r}, but {_files.listed(map(str, frame.columns))}")
        if set(frame.columns) != set(frames[0].columns):
            raise DataError(f"{place} has other columns than {places[0]}: the same are needed")
        _table.check(place, frame, [] if labelled else [target], special if labelled else special[1:])
    whole = _table.joined(frames)
    x = _table.features(places[0], whole, special)
    y, classes = _table.numbered(whole[target]) if labelled else (whole[target].to_numpy(), None)
    if classes == 1:
        raise DataError(f"{places[0]}: all labels are {whole[target].iloc[0]}: two are needed, or task: regression")
    owners = _table.numbered(whole[owner])[0] if owner else None
    test = np.arange(len(frames[0]), len(whole)) if len(frames) > 1 else None
    return dataset(x, y, classes, test, owners)
