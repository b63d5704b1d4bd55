"""Breast cancer Wisconsin (Street et al. 1993): benign and malignant tumours, shipped with scikit-learn."""

from functools import lru_cache

from byzax.simulator.data._shipped import read_shipped
from byzax.simulator.data.base import Dataset, dataset


@lru_cache(maxsize=1)
def breast_cancer() -> Dataset:
    """Thirty measurements of cell nuclei for each tumour, `[569, 30]`; no files and no download needed.

    The features have sizes from 0.001 to 1,000: bring them to one scale with `normalise: per_feature`.

    Samples: 569 of 2 labels (0 malignant, 1 benign), no test set of its own

    Returns:
        The data set.

    Raises:
        DataError: Where scikit-learn is not installed, or damaged.

    References:
        Street, Wolberg and Mangasarian 1993, "Nuclear feature extraction for breast tumor diagnosis"
    """
    table = read_shipped("breast_cancer.csv", skipped=1)
    return dataset(table[:, :-1], table[:, -1], 2)
