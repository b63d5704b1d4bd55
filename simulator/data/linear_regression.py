"""A regression made on the spot, of a known difficulty."""

from functools import lru_cache

import numpy as np

from byzax.simulator.data.base import LARGEST, Dataset, dataset


@lru_cache(maxsize=4)
def linear_regression(
    *, samples: int = 1000, features: int = 20, condition: float = 1.0, noise: float = 0.1, sample_seed: int = 0
) -> Dataset:
    """Values that are linear in the features, and noise: y = <w, x> + noise e (regression), `[samples, features]`.

    Features are independent, N(0, v_j) with v_j in equal ratios from 1 to 1/condition, so that the Hessian of the
    squared loss has the condition number `condition`; w ~ N(0, I), e ~ N(0, 1).

    Samples: as many as asked for, no test set of its own
    Source: made by byzax; the setting of Chen, Su and Xu 2017 (linear regression with Gaussian features)

    Args:
        samples: number of samples.
        features: of each sample.
        condition: ratio of the largest variance of a feature to the smallest, at least 1.
        noise: standard deviation of what the features do not tell.
        sample_seed: of the samples alone; repeats of a scenario see the same ones.

    Raises:
        ValueError: for an option out of range.
    """
    if samples < 1 or features < 1 or not 1 <= condition < np.inf or not 0 <= noise < np.inf:
        raise ValueError(
            "linear_regression needs samples >= 1, features >= 1, condition >= 1 and noise >= 0, got "
            f"samples={samples}, features={features}, condition={condition}, noise={noise}"
        )
    if samples * features > LARGEST:
        raise ValueError(
            f"linear_regression makes at most {LARGEST} numbers: {samples} samples of {features} are too many"
        )
    rng = np.random.default_rng(sample_seed)
    deviations = np.geomspace(1, 1 / condition, features) ** 0.5
    x = rng.normal(size=(samples, features)) * deviations
    y = x @ rng.normal(size=features) + noise * rng.normal(size=samples)
    return dataset(x, y, None)
