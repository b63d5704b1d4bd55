"""Random mirror images (Krizhevsky et al. 2012)."""

from typing import Literal

import jax
import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.augmentations.base import Array, Augmentation, Probability, build_augmentation


@checked
def flip(*, axis: Literal["horizontal", "vertical"] = "horizontal", probability: Probability = 0.5) -> Augmentation:
    """Mirrors each image, left to right or upside down, with a given probability.

    Formula: image[i, j] -> image[i, w - 1 - j] with the probability, or image[h - 1 - i, j]

    Args:
        axis: "horizontal" exchanges left and right, "vertical" top and bottom.
        probability: Probability that an image is mirrored, in [0, 1].

    Returns:
        The augmentation. It raises PartError for samples that are not images.

    Raises:
        OptionError: For an option out of its range.

    References:
        Krizhevsky, Sutskever and Hinton, NeurIPS 2012, "ImageNet classification", section 4.1
    """

    def change(key: Array, image: Array) -> Array:
        mirrored = jnp.flip(image, 1 if axis == "horizontal" else 0)
        return jnp.where(jax.random.bernoulli(key, probability), mirrored, image)

    return build_augmentation("flip", change)
