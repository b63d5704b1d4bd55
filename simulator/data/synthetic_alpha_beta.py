"""Synthetic(alpha, beta) (Li et al. 2020): generated devices whose models and samples differ by chosen amounts."""

from functools import lru_cache

import numpy as np

from byzax.options import PartError, checked
from byzax.simulator.data.base import LARGEST, AtLeastTwo, Count, Dataset, NotNegative, SeedNumber, dataset


@checked
def synthetic_alpha_beta(
    *,
    alpha: NotNegative = 1.0,
    beta: NotNegative = 1.0,
    devices: Count = 30,
    features: Count = 60,
    classes: AtLeastTwo = 10,
    iid: bool = False,
    sample_seed: SeedNumber = 0,
) -> Dataset:
    """Generates Synthetic(alpha, beta): alpha is how much the devices' models differ, beta how much their samples do.

    Device k: y = argmax(W_k x + b_k), all entries of W_k and b_k from N(u_k, 1), u_k ~ N(0, alpha²);
    x ~ N(v_k, diag(j^-1.2)), entries of v_k from N(B_k, 1), B_k ~ N(0, beta²); and it has
    50 + floor(lognormal(4, 2)) samples. The deviations are alpha and beta, as in the authors' code, where the paper
    writes N(0, alpha). As u_k is one number for all entries it moves all logits of a sample alike, and labels do not
    depend on it. Owners are the devices: share them out with the partition by_writer.

    Samples: about 105 or fewer for half of the devices and thousands for some, no test set of its own

    Args:
        alpha: Standard deviation of u_k.
        beta: Standard deviation of B_k.
        devices: Number of devices.
        features: Number of features of each sample.
        classes: Number of labels, at least 2.
        iid: Whether all devices share one W and b, from N(0, 1), and v_k = B_k: with alpha = beta = 0 the paper's iid
            data.
        sample_seed: Seed of the samples alone; all repeats of a scenario get the same ones.

    Returns:
        The data set.

    Raises:
        OptionError: For an option out of its range.
        PartError: For too many numbers.

    References:
        Li et al., MLSys 2020, "Federated optimization in heterogeneous networks" (FedProx), section 5.1
    """
    return _generate(alpha, beta, devices, features, classes, iid, sample_seed)


@lru_cache(maxsize=4)
def _generate(
    alpha: float, beta: float, devices: int, features: int, classes: int, iid: bool, sample_seed: int
) -> Dataset:
    rng = np.random.default_rng(sample_seed)
    counts = 50 + rng.lognormal(4, 2, devices).astype(int)
    if counts.sum() * features > LARGEST:
        raise PartError(
            f"synthetic_alpha_beta makes at most {LARGEST} numbers: {counts.sum()} samples of {features} are too many"
        )
    deviations = np.arange(1, features + 1) ** -0.6
    shared = rng.normal(size=(classes, features)), rng.normal(size=classes)
    x = np.empty((counts.sum(), features), np.float32)
    y = np.empty(counts.sum(), np.int32)
    ends = np.cumsum(counts)
    for end, count in zip(ends, counts, strict=True):
        u, centre = alpha * rng.normal(), beta * rng.normal()
        v = np.full(features, centre) if iid else centre + rng.normal(size=features)
        w, b = shared if iid else (u + rng.normal(size=(classes, features)), u + rng.normal(size=classes))
        of_device = v + rng.normal(size=(count, features)) * deviations
        x[end - count : end] = of_device
        y[end - count : end] = np.argmax(of_device @ w.T + b, axis=1)
    return dataset(x, y, classes, owners=np.repeat(np.arange(devices), counts))
