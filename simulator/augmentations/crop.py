"""Random crop (Szegedy et al. 2015): a random part of the image, stretched to the size of the whole."""

from typing import Annotated

import jax
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
def crop(*, smallest: Annotated[float, Field(gt=0, le=1)] = 0.5) -> Augmentation:
    """Replaces each image by a part of it, at a random place and of a random size, stretched to the old size.

    Formula: a window of the share a of the area, a uniform on [smallest, 1], of the image's shape, brought to h x w

    A window never reaches over the edge, so that nothing has to be filled in.

    Args:
        smallest: Least share of the area, in (0, 1]; 0.08 in the paper, on images of 224x224.

    Returns:
        The augmentation. It raises PartError for samples that are not images.

    Raises:
        OptionError: For `smallest` out of its range.

    References:
        Szegedy et al., CVPR 2015, "Going deeper with convolutions", section 6 (without its changes of shape)
    """

    def change(key: Array, image: Array) -> Array:
        area_key, place_key = jax.random.split(key)
        side = jax.random.uniform(area_key, minval=smallest, maxval=1.0) ** 0.5
        # how far the window's middle may be from the image's
        room = (1 - side) / 2
        up, left = jax.random.uniform(place_key, (2,), minval=-1.0, maxval=1.0) * room
        rows, columns = centred_coordinates(image)
        height, width = image.shape[:2]
        window = from_first_pixel(image, side * rows + up * (height - 1), side * columns + left * (width - 1))
        return resample(image, *window)

    return build_augmentation("crop", change)
