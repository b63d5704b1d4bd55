"""Random rotation by a small angle (Simard et al. 2003)."""

from typing import Annotated

import jax
import jax.numpy as jnp
from pydantic import Field

from byzax.options import checked
from byzax.simulator.augmentations.base import (
    Array,
    Augmentation,
    build_augmentation,
    centred_coordinates,
    from_first_pixel,
    resample,
)


@checked
def rotate(*, degrees: Annotated[float, Field(gt=0, le=180)] = 15.0) -> Augmentation:
    """Turns each image about its middle by a random angle; the corners that open are background.

    Formula: by an angle uniform on [-degrees, degrees], pixels between others in proportion

    0 is the background: black, or paper where ink is darker. Images are changed before they are normalised, in units of
    their range, as by torchvision's RandomRotation in front of its Normalize.

    Args:
        degrees: Largest angle in degrees, in (0, 180].

    Returns:
        The augmentation. It raises PartError for samples that are not images.

    Raises:
        OptionError: For `degrees` out of its range.

    References:
        Simard, Steinkraus and Platt, ICDAR 2003, "Best practices for convolutional neural networks"
    """

    def change(key: Array, image: Array) -> Array:
        angle = jnp.deg2rad(jax.random.uniform(key, minval=-degrees, maxval=degrees))
        rows, columns = centred_coordinates(image)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        turned = from_first_pixel(image, cosine * rows - sine * columns, sine * rows + cosine * columns)
        return resample(image, *turned)

    return build_augmentation("rotate", change)
