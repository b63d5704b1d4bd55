"""Images a few pixels aside."""

import jax
import jax.numpy as jnp

from byzax.simulator.augmentations.base import Array, Augmentation, each


def shift(*, pixels: int = 4) -> Augmentation:
    """Each image is moved by some pixels along both axes, and what comes in is background.

    Which is the same as to put `pixels` zeros on every side and cut out an image of the old size at random.

    Formula: image[i, j] -> image[i - a, j - b], a and b each uniform on -pixels..pixels
    Source: He, Zhang, Ren and Sun, CVPR 2016, "Deep residual learning", section 4.2 (padding of 4 and a random crop)

    0 is the background: black, or paper where ink is darker. Images are changed before they are normalised, in units of
    their range, as by torchvision's RandomCrop in front of its Normalize.

    Args:
        pixels: the farthest.

    Raises:
        ValueError: for pixels < 1; from the augmentation for samples that are no images.
    """
    if pixels < 1:
        raise ValueError(f"shift needs pixels >= 1, got {pixels}")

    def change(key: Array, image: Array) -> Array:
        padded = jnp.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)))
        row, column = jax.random.randint(key, (2,), 0, 2 * pixels + 1)
        return jax.lax.dynamic_slice(padded, (row, column, jnp.zeros_like(row)), image.shape)

    return each("shift", change)
