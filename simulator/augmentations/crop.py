"""A part of each image, as large as the whole."""

import jax

from byzax.simulator.augmentations.base import Array, Augmentation, each, from_middle, places, resampled


def crop(*, smallest: float = 0.5) -> Augmentation:
    """Each image becomes a part of itself, at a random place and of a random size, stretched to the old size.

    Formula: a window of the share a of the area, a uniform on [smallest, 1], of the image's shape, brought to h x w
    Source: Szegedy et al., CVPR 2015, "Going deeper with convolutions", section 6 (without its changes of shape)

    A window never reaches over the edge, so that nothing has to be filled in.

    Args:
        smallest: the least share of the area, in (0, 1]; 0.08 in the paper, on images of 224x224.

    Raises:
        ValueError: for smallest outside (0, 1]; from the augmentation for samples that are no images.
    """
    if not 0 < smallest <= 1:
        raise ValueError(f"crop needs 0 < smallest <= 1, a share of the area such as 0.5, got {smallest}")

    def change(key: Array, image: Array) -> Array:
        area, where = jax.random.split(key)
        side = jax.random.uniform(area, minval=smallest, maxval=1.0) ** 0.5
        # how far the window's middle may be from the image's
        room = (1 - side) / 2
        up, left = jax.random.uniform(where, (2,), minval=-1.0, maxval=1.0) * room
        rows, columns = places(image)
        height, width = image.shape[:2]
        moved = from_middle(image, side * rows + up * (height - 1), side * columns + left * (width - 1))
        return resampled(image, *moved)

    return each("crop", change)
