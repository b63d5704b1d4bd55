"""Diabetes (Efron et al. 2004): the progression of the disease, a regression shipped with scikit-learn."""

from functools import lru_cache

from byzax.simulator.data._shipped import read_shipped
from byzax.simulator.data.base import Dataset, dataset


@lru_cache(maxsize=1)
def diabetes() -> Dataset:
    """Ten measurements of each patient and the disease a year later (regression), `[442, 10]`; no download needed.

    Values are scikit-learn's divided by 100, from 0.25 to 3.46, so that losses are near 1. Features are as measured,
    with sizes from 1 to 300: bring them to one scale with `normalise: per_feature`.

    Samples: 442 values, no test set of its own

    Returns:
        The data set.

    Raises:
        DataError: Where scikit-learn is not installed, or damaged.

    References:
        Efron, Hastie, Johnstone and Tibshirani 2004, "Least angle regression"
    """
    # not scikit-learn's own scaling, which the test samples are part of
    x, y = read_shipped("diabetes_data_raw.csv.gz"), read_shipped("diabetes_target.csv.gz")
    return dataset(x, y / 100, None)
