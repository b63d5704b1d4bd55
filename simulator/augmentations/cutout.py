"""Images with a hole."""

import jax
import jax.numpy as jnp

from byzax.simulator.augmentations.base import Array, Augmentation, each


def cutout(*, size: int = 8) -> Augmentation:
    """A square of each image becomes background; its middle is any pixel, and so a part of it may lie outside.

    Formula: image[i, j] -> 0 for r <= i + size // 2 < r + size, c <= j + size // 2 < c + size, (r, c) a uniform pixel
    Source: DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with cutout"

    The background, 0, is black, or paper where ink is darker: images are changed before they are normalised, in units
    of their range. The authors' code normalises first, so that its square is of the mean colour.

    Args:
        size: of a side, in pixels; the authors take 16 on CIFAR-10, 8 on CIFAR-100 and 20 on SVHN.

    Raises:
        ValueError: for size < 1; from the augmentation for samples that are no images.
    """
    if size < 1:
        raise ValueError(f"cutout needs size >= 1, got {size}")

    def change(key: Array, image: Array) -> Array:
        first = jax.random.randint(key, (2,), 0, jnp.array(image.shape[:2])) - size // 2
        row, column = (jnp.arange(length) - start for length, start in zip(image.shape[:2], first, strict=True))
        inside = ((row >= 0) & (row < size))[:, None] & ((column >= 0) & (column < size))
        return jnp.where(inside[..., None], 0, image)

    return each("cutout", change)
