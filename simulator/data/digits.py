"""Digits (Alpaydin and Kaynak 1998): handwritten digits of 8x8 pixels, shipped with scikit-learn."""

from functools import lru_cache

from byzax.simulator.data._shipped import read_shipped
from byzax.simulator.data.base import Dataset, dataset


@lru_cache(maxsize=1)
def digits() -> Dataset:
    """Handwritten digits of 8x8 pixels, `[1797, 8, 8]` in [0, 1]; no files and no download needed.

    Samples: 1,797 of 10 labels, no test set of its own

    Returns:
        The data set.

    Raises:
        DataError: Where scikit-learn is not installed, or damaged.

    References:
        Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI; through scikit-learn
    """
    table = read_shipped("digits.csv.gz")
    return dataset(table[:, :-1].reshape(-1, 8, 8) / 16, table[:, -1], classes=10)
