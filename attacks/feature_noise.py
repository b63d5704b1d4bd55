"""Noisy features (Li et al. 2022): normal noise on the samples, as from broken sensors."""

import jax
import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Batch, NotNegative, check
from byzax.options import PartError, checked


@checked
def feature_noise(n: int, f: int, *, standard_deviation: NotNegative = 1.0) -> Attack:
    """Byzantine workers train honestly, on samples to which noise is added, as by broken sensors.

    Formula: x + N(0, standard_deviation² I) in every batch, before samples are normalised; the row is then computed by
        the protocol
    Knows: own row

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        standard_deviation: Of the noise, as a share of the data's range: that of all pixels of images, that of each
            feature of a table.

    Returns:
        The attack, which poisons batches. When used it raises PartError for samples that are whole numbers.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Li, Diao, Chen and He, ICDE 2022, "Federated Learning on Non-IID Data Silos" (noise on the features of honest
            parties, the more the higher their number)
    """
    check("feature_noise", n, f)

    def corrupt(key: Array, batch: Batch) -> Batch:
        if not jnp.issubdtype(batch.x.dtype, jnp.floating):
            raise PartError(
                f"feature_noise adds noise to numbers with a fraction, and the samples of this data are {batch.x.dtype}"
                ": take data of that kind, or label_flip"
            )
        noise = standard_deviation * jax.random.normal(key, batch.x.shape, batch.x.dtype)
        return batch._replace(x=batch.x + noise)

    return Attack(corrupt=corrupt)
