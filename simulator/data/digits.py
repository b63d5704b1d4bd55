"""Digits (Alpaydin and Kaynak 1998): handwritten digits of 8x8 pixels, shipped with scikit-learn."""

from functools import lru_cache

from byzax.simulator.data.base import Dataset, dataset


@lru_cache(maxsize=1)
def digits() -> Dataset:
    """Handwritten digits of 8x8 pixels, `[1797, 8, 8]` in [0, 1]; no files and no download needed.

    Samples: 1,797 of 10 labels, no test set of its own

    Returns:
        The data set.

    References:
        Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI; through scikit-learn
    """
    # here, not above: scikit-learn takes about a second to import and only this data set needs it
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return dataset(loaded.images / 16, loaded.target, classes=10)  # pyright: ignore[reportAttributeAccessIssue]
