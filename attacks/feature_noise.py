"""Noisy samples."""

import jax
import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Batch, check


def feature_noise(n: int, f: int, *, standard_deviation: float = 1.0) -> Attack:
    """Byzantine workers train honestly, on samples to which noise is added, as by broken sensors.

    Formula: x + N(0, standard_deviation² I) in every batch, before samples are normalised; the row is then computed by
        the protocol
    Knows: own row
    Source: Li, Diao, Chen and He, ICDE 2022, "Federated Learning on Non-IID Data Silos" (noise on the
        features of honest parties, the more the higher their number)

    Args:
        standard_deviation: of the noise, as a share of the data's range: that of all pixels of images, that of each
            feature of a table.

    Raises:
        ValueError: unless 0 <= f <= n, for a negative standard deviation, or for samples that are whole numbers.
    """
    check("feature_noise", n, f)
    if not standard_deviation >= 0:
        raise ValueError(f"feature_noise needs standard_deviation >= 0, got {standard_deviation}")

    def corrupt(key: Array, batch: Batch) -> Batch:
        if not jnp.issubdtype(batch.x.dtype, jnp.floating):
            raise ValueError(
                f"feature_noise adds noise to numbers with a fraction, and the samples of this data are {batch.x.dtype}"
                ": take data of that kind, or label_flip"
            )
        noise = standard_deviation * jax.random.normal(key, batch.x.shape, batch.x.dtype)
        return batch._replace(x=batch.x + noise)

    return Attack(corrupt=corrupt)
