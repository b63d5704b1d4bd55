"""Breast cancer Wisconsin (Street et al. 1993): benign and malignant tumours, shipped with scikit-learn."""

from functools import lru_cache

from byzax.simulator.data.base import Dataset, dataset


@lru_cache(maxsize=1)
def breast_cancer() -> Dataset:
    """Thirty measurements of cell nuclei for each tumour, `[569, 30]`; no files and no download needed.

    The features have sizes from 0.001 to 1,000: bring them to one scale with `normalise: per_feature`.

    Samples: 569 of 2 labels (0 malignant, 1 benign), no test set of its own

    Returns:
        The data set.

    References:
        Street, Wolberg and Mangasarian 1993, "Nuclear feature extraction for breast tumor diagnosis"
    """
    # here, not above: scikit-learn takes about a second to import
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return dataset(x, y, 2)  # pyright: ignore[reportArgumentType]
