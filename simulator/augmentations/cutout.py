"""Cutout (DeVries and Taylor 2017): a square of the image becomes background."""

import jax
import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.augmentations.base import Array, Augmentation, Count, build_augmentation


@checked
def cutout(*, size: Count = 8) -> Augmentation:
    """Sets a random square of each image to the background; its middle is any pixel, so a part of it may lie outside.

    Formula: image[i, j] -> 0 for r <= i + size // 2 < r + size, c <= j + size // 2 < c + size, (r, c) a uniform pixel

    The background, 0, is black, or paper where ink is darker: images are changed before they are normalised, in units
    of their range. The authors' code normalises first, so that its square is of the mean colour.

    Args:
        size: Side of the square in pixels; the authors take 16 on CIFAR-10, 8 on CIFAR-100 and 20 on SVHN.

    Returns:
        The augmentation. It raises PartError for samples that are not images.

    Raises:
        OptionError: For `size` out of its range.

    References:
        DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with cutout"
    """

    def change(key: Array, image: Array) -> Array:
        first = jax.random.randint(key, (2,), 0, jnp.array(image.shape[:2])) - size // 2
        row, column = (jnp.arange(length) - start for length, start in zip(image.shape[:2], first, strict=True))
        inside = ((row >= 0) & (row < size))[:, None] & ((column >= 0) & (column < size))
        return jnp.where(inside[..., None], 0, image)

    return build_augmentation("cutout", change)
