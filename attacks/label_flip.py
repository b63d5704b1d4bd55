"""Poisoned labels."""

from typing import Literal

import jax
import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Batch, check, classes_of


def label_flip(
    n: int, f: int, *, labels: Literal["all", "targeted", "random"] = "all", source: int = 0, target: int = 1
) -> Attack:
    """Byzantine workers train honestly, on samples whose labels are turned round.

    Labels are numbers from 0: where those of the data are others, the notes before a run say which number stands for
    which.

    Formula: y -> classes - 1 - y in every batch (all), source -> target (targeted) or another label, each equally
        likely (random); the row is then computed by the protocol
    Knows: own row
    Source: Fang et al. 2020 ("label flipping"); Karimireddy et al. 2022 (bucketing); Tolpegin et al. 2020 (targeted)

    Args:
        labels: which are turned round, and into what.
        source: for targeted: the label that is replaced.
        target: for targeted: what replaces it; where the data has no such label nothing is replaced.

    Raises:
        ValueError: unless 0 <= f <= n, for an unknown word, a negative label, or source = target where they count.
    """
    check("label_flip", n, f)
    if labels not in ("all", "targeted", "random"):
        raise ValueError(f"label_flip knows the labels all, targeted and random, got {labels!r}")
    if min(source, target) < 0:
        raise ValueError(f"label_flip needs labels from 0, got source={source}, target={target}")
    if labels == "targeted" and source == target:
        raise ValueError(f"label_flip needs a target that is not the source, got {source} for both")

    def corrupt(key: Array, batch: Batch) -> Batch:
        y, classes = batch.y, classes_of("label_flip", batch)
        if labels == "all":
            turned = classes - 1 - y
        elif labels == "targeted":
            turned = jnp.where((y == source) & (target < classes), target, y)
        else:
            turned = (y + jax.random.randint(key, y.shape, 1, jnp.maximum(classes, 2))) % classes
        return batch._replace(y=turned.astype(y.dtype))

    return Attack(corrupt=corrupt)
