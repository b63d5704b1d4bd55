"""Label flipping (Fang et al. 2020): training on wrong labels."""

from typing import Literal

import jax
import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Batch, Label, check, classes_of
from byzax.options import OptionError, checked


@checked
def label_flip(
    n: int, f: int, *, labels: Literal["all", "targeted", "random"] = "all", source: Label = 0, target: Label = 1
) -> Attack:
    """Byzantine workers train honestly, on samples with wrong labels.

    Labels are numbers from 0: where those of the data are others, the notes before a run say which number stands for
    which.

    Formula: y -> classes - 1 - y in every batch (all), source -> target (targeted) or another label, each equally
        likely (random); the row is then computed by the protocol
    Knows: own row

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        labels: The labels that are replaced, and their replacements.
        source: For targeted: the label that is replaced.
        target: For targeted: what replaces it; where the data has no such label nothing is replaced.

    Returns:
        The attack, which poisons batches. When used it raises PartError for data without labels.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range, or source = target where they count.

    References:
        Fang et al. 2020 ("label flipping")
        Karimireddy et al. 2022 (bucketing)
        Tolpegin et al. 2020 (targeted)
    """
    check("label_flip", n, f)
    if labels == "targeted" and source == target:
        raise OptionError("target", f"must be another label than the source, got {target} for both")

    def corrupt(key: Array, batch: Batch) -> Batch:
        y, classes = batch.y, classes_of("label_flip", batch)
        if labels == "all":
            flipped = classes - 1 - y
        elif labels == "targeted":
            flipped = jnp.where((y == source) & (target < classes), target, y)
        else:
            flipped = (y + jax.random.randint(key, y.shape, 1, jnp.maximum(classes, 2))) % classes
        return batch._replace(y=flipped.astype(y.dtype))

    return Attack(corrupt=corrupt, reads_labels=True)
