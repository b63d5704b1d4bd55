"""Mirror images."""

from typing import Literal

import jax
import jax.numpy as jnp

from byzax.simulator.augmentations.base import Array, Augmentation, each


def flip(*, axis: Literal["horizontal", "vertical"] = "horizontal", probability: float = 0.5) -> Augmentation:
    """Images are turned left to right (or upside down), each with a probability.

    Formula: image[i, j] -> image[i, w - 1 - j] with the probability, or image[h - 1 - i, j]
    Source: Krizhevsky, Sutskever and Hinton, NeurIPS 2012, "ImageNet classification", section 4.1

    Args:
        axis: "horizontal" exchanges left and right, "vertical" top and bottom.
        probability: for each image.

    Raises:
        ValueError: for an option out of range; from the augmentation for samples that are no images.
    """
    if axis not in ("horizontal", "vertical"):
        raise ValueError(f'flip has the axes "horizontal" and "vertical", got {axis!r}')
    if not 0 <= probability <= 1:
        raise ValueError(f"flip needs 0 <= probability <= 1, got {probability}")

    def change(key: Array, image: Array) -> Array:
        turned = jnp.flip(image, 1 if axis == "horizontal" else 0)
        return jnp.where(jax.random.bernoulli(key, probability), turned, image)

    return each("flip", change)
