"""California housing (Pace and Barry 1997): house prices of districts, a regression."""

from pathlib import Path

import numpy as np

from byzax.options import checked
from byzax.simulator.data import _files, _table
from byzax.simulator.data._files import Fetch
from byzax.simulator.data.base import DataError, Dataset, dataset
from byzax.simulator.file_cache import file_cache

FETCH = {
    "cal_housing.tgz": Fetch(
        ("https://ndownloader.figshare.com/files/5976036",),
        "aaa5c9a6afe2225cc2aed2723682ae403280c4a3695a2ddda4ffb5d8215ea681",
    )
}
COLUMNS = [
    "longitude", "latitude", "housing_median_age", "total_rooms", "total_bedrooms", "population", "households",
    "median_income", "median_house_value",
]  # fmt: skip


@checked
def california(*, root: str | None = None) -> Dataset:
    """Median house prices of districts, in 100,000 dollars (regression), `[20640, 8]`, downloaded once or from a file.

    The file is cal_housing.data (the original) or housing.csv (with column names), in `root`, or without one in
    $BYZAX_DATA (itself or its sub-folder `california`), else in `data/california` of the cache folder. Features are
    those of scikit-learn: income, age, rooms and bedrooms per household, people, people per household, latitude,
    longitude; bring them to one scale with `normalise: per_feature`. Of housing.csv districts with a gap are left out
    (207).

    Samples: 20,640 values, no test set of its own

    Args:
        root: Folder of the file. None: $BYZAX_DATA, else the cache folder.

    Returns:
        The data set.

    Raises:
        DataError: Where the file is missing and cannot be downloaded, or is damaged.

    References:
        Pace and Barry 1997, "Sparse spatial autoregressions"; through scikit-learn's mirror
    """
    folder = _files.find_folder(
        "california", ("cal_housing.data|housing.csv",), root, FETCH, inside="CaliforniaHousing"
    )
    place = _files.find_file(folder, "cal_housing.data|housing.csv")
    assert place is not None
    return _load(place)


@file_cache(maxsize=1)
def _load(place: Path) -> Dataset:
    frame = _table.read_csv(place, None if ".csv" in place.suffixes else COLUMNS)
    if missing := [column for column in COLUMNS if column not in frame]:
        raise DataError(f"{place} lacks the column {_files.join_words(missing)}: {_files.WAY_OUT}")
    numbers = frame[COLUMNS].dropna(subset=["total_bedrooms"])
    _table.check_values(place, numbers, COLUMNS)
    raw = numbers.to_numpy(np.float64)
    if not len(raw) or (raw[:, 6] <= 0).any():
        raise DataError(f"{place} holds no district, or one without a household: {_files.WAY_OUT}")
    longitude, latitude, age, rooms, bedrooms, people, households, income, value = raw.T
    x = np.stack(
        [income, age, rooms / households, bedrooms / households, people, people / households, latitude, longitude], 1
    )
    return dataset(x, value / 100_000, None)
