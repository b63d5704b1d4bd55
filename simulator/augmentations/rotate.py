"""Images a little aslant."""

import jax
import jax.numpy as jnp

from byzax.simulator.augmentations.base import Array, Augmentation, each, from_middle, places, resampled


def rotate(*, degrees: float = 15.0) -> Augmentation:
    """Each image is turned about its middle, and what comes in at the corners is background.

    Formula: by an angle uniform on [-degrees, degrees], pixels between others in proportion
    Source: Simard, Steinkraus and Platt, ICDAR 2003, "Best practices for convolutional neural networks"

    0 is the background: black, or paper where ink is darker. Images are changed before they are normalised, in units of
    their range, as by torchvision's RandomRotation in front of its Normalize.

    Args:
        degrees: the largest angle, in (0, 180].

    Raises:
        ValueError: for degrees outside (0, 180]; from the augmentation for samples that are no images.
    """
    if not 0 < degrees <= 180:
        raise ValueError(f"rotate needs 0 < degrees <= 180, got {degrees}")

    def change(key: Array, image: Array) -> Array:
        angle = jnp.deg2rad(jax.random.uniform(key, minval=-degrees, maxval=degrees))
        rows, columns = places(image)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        return resampled(image, *from_middle(image, cosine * rows - sine * columns, sine * rows + cosine * columns))

    return each("rotate", change)
