"""Images of the tests: random pixels of the size the convolutional network needs."""

from functools import lru_cache

import numpy as np

from simulator.data.base import Dataset, dataset


@lru_cache
def images() -> Dataset:
    """Random images of 28x28 pixels with random labels.

    Samples: 600 of 10 labels
    Source: made for the tests
    """
    rng = np.random.default_rng(0)
    return dataset(rng.random((600, 28, 28)), rng.integers(0, 10, 600), 10)
