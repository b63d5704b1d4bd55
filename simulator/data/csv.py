"""CSV: a table in a file of your own."""

from pathlib import Path

import numpy as np

from byzax.options import checked
from byzax.simulator.data import _files, _table, _targets
from byzax.simulator.data.base import DataError, Dataset, Task, dataset, describe
from byzax.simulator.file_cache import file_cache
from byzax.simulator.mistakes import shorten


@checked
def csv(
    *,
    path: str,
    target: str,
    task: Task = "classification",
    owner: str | None = None,
    drop: tuple[str, ...] = (),
    test_path: str | None = None,
) -> Dataset:
    """Reads a CSV file (gzip or not) with column names in its first line, `[N, columns]`.

    Columns of words become one column of 0 and 1 for each word. A label may be a whole number or a word; labels are
    numbered from 0 in their order, and the number of each label is printed before a run. `normalise: per_feature`
    brings columns to one scale.

    Samples: those of the file, no test set of its own unless test_path names one

    Args:
        path: Path of the file, relative to the working directory or to $BYZAX_DATA.
        target: Name of the column to predict.
        task: Whether the target is a label or a value.
        owner: Name of the column with the owner of each sample, for the partition by_writer; it is no feature then.
            None: no owners are known.
        drop: Names of columns that are left out, such as identifiers.
        test_path: Path of a file with the same columns, whose samples are the test set. None: a share of all is drawn.

    Returns:
        The data set.

    Raises:
        OptionError: For an unknown `task`.
        DataError: Where a file is missing, is no table, lacks a column or a value, holds a label that is no whole
            number, a number beyond float32, or more different words than there is room for.

    References:
        Your own file
    """
    places = [_files.find_named("csv", "path", path)]
    if test_path is not None:
        places.append(_files.find_named("csv", "test_path", test_path))
    return _load(tuple(places), target, task == "classification", owner, tuple(drop))


@file_cache(maxsize=4)
def _load(places: tuple[Path, ...], target: str, labelled: bool, owner: str | None, drop: tuple[str, ...]) -> Dataset:
    special = [target, *([owner] if owner else [])]
    frames = []
    for place in places:
        frame = _table.read_csv(place)
        if missing := [column for column in (*special, *drop) if column not in frame]:
            raise DataError(
                f"{place} has no column {missing[0]!r}, but {shorten(_files.join_words(map(str, frame.columns)), 200)}"
            )
        frame = frame.drop(columns=[column for column in drop if column not in special])
        if frames and set(frame.columns) != set(frames[0].columns):
            raise DataError(f"{place} has other columns than {places[0]}: the same are needed")
        frame = _table.convert_large_numbers(frame, special if labelled else special[1:])
        _table.check_values(place, frame, [] if labelled else [target], special if labelled else special[1:])
        frames.append(frame)
        _table.check_same_types(places[0], frames[0], place, frame)
    whole = _table.concatenate(frames)
    x = _table.features(places[0], whole, special)
    owners = _table.number_values(whole[owner]) if owner else None
    test = np.arange(len(frames[0]), len(whole)) if len(frames) > 1 else None
    about = [describe("x", x), *_table.describe_words(whole, special)]
    y, kind = whole[target].to_numpy(), _table.type_name(whole[target])
    if not labelled:
        about.append(_targets.describe_values(target, kind, y))
        return dataset(x, y, None, test, owners, about=tuple(about))
    numbers, names = _targets.number_labels(f"{places[0]}: {target}", y)
    about.append(_targets.describe_labels(target, kind, names, len(y)))
    return dataset(x, numbers, len(names), test, owners, _targets.label_names(names), tuple(about))
