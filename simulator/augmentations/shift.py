"""Random translation by a few pixels (He et al. 2016)."""

import jax
import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.augmentations.base import Array, Augmentation, Count, build_augmentation


@checked
def shift(*, pixels: Count = 4) -> Augmentation:
    """Moves each image by a random number of pixels along both axes; the edges that open are background.

    It is the same as putting `pixels` zeros on every side and cutting out an image of the old size at random.

    Formula: image[i, j] -> image[i - a, j - b], a and b each uniform on -pixels..pixels

    0 is the background: black, or paper where ink is darker. Images are changed before they are normalised, in units of
    their range, as by torchvision's RandomCrop in front of its Normalize.

    Args:
        pixels: Largest shift along each axis, in pixels.

    Returns:
        The augmentation. It raises PartError for samples that are not images.

    Raises:
        OptionError: For `pixels` out of its range.

    References:
        He, Zhang, Ren and Sun, CVPR 2016, "Deep residual learning", section 4.2 (padding of 4 and a random crop)
    """

    def change(key: Array, image: Array) -> Array:
        padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
        row, column = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
        return jax.lax.dynamic_slice(padded, (row, column, jnp.zeros_like(row)), image.shape)

    return build_augmentation("shift", change)
