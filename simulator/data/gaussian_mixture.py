"""Labelled clusters made on the spot."""

import math
from functools import lru_cache

import numpy as np

from byzax.simulator.data.base import LARGEST, Dataset, dataset


@lru_cache(maxsize=4)
def gaussian_mixture(
    *,
    samples: int = 2000,
    shape: tuple[int, ...] = (20,),
    classes: int = 10,
    separation: float = 4.0,
    sample_seed: int = 0,
) -> Dataset:
    """One normal cluster for each label, `[samples, *shape]`: data of a known difficulty, of any size.

    Sample = separation * (direction of its label) + N(0, I); the directions are random unit vectors.

    Samples: as many as asked for, labels in equal shares, no test set of its own
    Source: made by byzax

    Args:
        samples: number of samples, at least `classes`.
        shape: of one sample; `[28, 28]` makes samples for the model cnn.
        classes: number of labels, at least 2.
        separation: distance of each cluster's centre from the origin, in standard deviations of the noise.
        sample_seed: of the samples alone; repeats of a scenario see the same ones.

    Raises:
        ValueError: for sizes out of range.
    """
    if classes < 2 or samples < classes or not shape or min(shape) < 1 or separation < 0:
        raise ValueError(
            "gaussian_mixture needs classes >= 2, samples >= classes, a shape of sizes >= 1 and separation >= 0, "
            f"got classes={classes}, samples={samples}, shape={tuple(shape)}, separation={separation}"
        )
    features = math.prod(shape)
    if samples * features > LARGEST:
        raise ValueError(
            f"gaussian_mixture makes at most {LARGEST} numbers: {samples} samples of {features} are too many"
        )
    rng = np.random.default_rng(sample_seed)
    directions = rng.normal(size=(classes, features))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    labels = rng.permutation(np.arange(samples) % classes)
    x = separation * directions[labels] + rng.normal(size=(samples, features))
    return dataset(x.reshape(samples, *shape), labels, classes)
