"""Devices that differ in their models and in their samples, as much as is asked for."""

from functools import lru_cache

import numpy as np

from byzax.simulator.data.base import LARGEST, Dataset, dataset


@lru_cache(maxsize=4)
def synthetic_alpha_beta(
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    devices: int = 30,
    features: int = 60,
    classes: int = 10,
    iid: bool = False,
    sample_seed: int = 0,
) -> Dataset:
    """Synthetic(alpha, beta): alpha is how much the devices' models differ, beta how much their samples do.

    Device k: y = argmax(W_k x + b_k), all entries of W_k and b_k from N(u_k, 1), u_k ~ N(0, alpha²);
    x ~ N(v_k, diag(j^-1.2)), entries of v_k from N(B_k, 1), B_k ~ N(0, beta²); and of samples it has
    50 + floor(lognormal(4, 2)). The deviations are alpha and beta, as in the authors' code, where the paper writes
    N(0, alpha). As u_k is one number for all entries it moves all logits of a sample alike, and labels do not depend on
    it. Owners are the devices: share them out with the partition by_writer.

    Samples: about 105 or fewer for half of the devices and thousands for some, no test set of its own
    Source: Li et al., MLSys 2020, "Federated optimization in heterogeneous networks" (FedProx), section 5.1

    Args:
        alpha: deviation of u_k.
        beta: deviation of B_k.
        devices: their number.
        features: of each sample.
        classes: number of labels, at least 2.
        iid: one W and b for all devices, from N(0, 1), and v_k = B_k: with alpha = beta = 0 the paper's iid data.
        sample_seed: of the samples alone; repeats of a scenario see the same ones.

    Raises:
        ValueError: for an option out of range.
    """
    if not (0 <= alpha < np.inf and 0 <= beta < np.inf and devices >= 1 and features >= 1 and classes >= 2):
        raise ValueError(
            "synthetic_alpha_beta needs alpha >= 0, beta >= 0, devices >= 1, features >= 1 and classes >= 2, got "
            f"alpha={alpha}, beta={beta}, devices={devices}, features={features}, classes={classes}"
        )
    rng = np.random.default_rng(sample_seed)
    counts = 50 + rng.lognormal(4, 2, devices).astype(int)
    if counts.sum() * features > LARGEST:
        raise ValueError(
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
        mine = v + rng.normal(size=(count, features)) * deviations
        x[end - count : end] = mine
        y[end - count : end] = np.argmax(mine @ w.T + b, axis=1)
    return dataset(x, y, classes, owners=np.repeat(np.arange(devices), counts))
