"""A data set of the tests: values in place of classes."""

from functools import lru_cache

import numpy as np

from byzax.simulator.data.base import Dataset


@lru_cache
def slope(*, samples: int = 300, shape: tuple[int, ...] = (5,), noise: float = 0.1) -> Dataset:
    """Values that are a fixed affine function of normal samples, and noise.

    Samples: as many as asked for

    References:
        Made for the tests
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, *shape))
    flat = x.reshape(samples, -1)
    y = flat @ np.linspace(-1, 2, flat.shape[1]) + 3 + noise * rng.normal(size=samples)
    return Dataset(x.astype(np.float32), y.astype(np.float32), None)  # pyright: ignore[reportArgumentType]
