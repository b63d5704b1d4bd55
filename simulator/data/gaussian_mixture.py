"""Labelled clusters made on the spot."""

from functools import lru_cache

import numpy as np

from simulator.data.base import Dataset, dataset


@lru_cache(maxsize=4)
def gaussian_mixture(
    *, samples: int = 2000, features: int = 20, classes: int = 10, separation: float = 4.0, seed: int = 0
) -> Dataset:
    """One normal cluster for each label, `[samples, features]`: data of a known difficulty, of any size.

    Sample = separation * (direction of its label) + N(0, I); the directions are random unit vectors.

    Samples: as many as asked for, labels in equal shares, no test set of its own
    Source: made by byzax

    Args:
        samples: number of samples, at least `classes`.
        features: number of coordinates of a sample.
        classes: number of labels, at least 2.
        separation: distance of each cluster's centre from the origin, in standard deviations of the noise.
        seed: of the data alone; repeats of a scenario see the same data.

    Raises:
        ValueError: for sizes out of range.
    """
    if classes < 2 or samples < classes or features < 1 or separation < 0:
        raise ValueError(
            "gaussian_mixture needs classes >= 2, samples >= classes, features >= 1 and separation >= 0, got "
            f"classes={classes}, samples={samples}, features={features}, separation={separation}"
        )
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(classes, features))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    labels = rng.permutation(np.arange(samples) % classes)
    return dataset(separation * directions[labels] + rng.normal(size=(samples, features)), labels, classes)
