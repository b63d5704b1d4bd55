"""The type of an augmentation, and the tools shared by the files of this folder."""

from typing import Annotated, Protocol

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from pydantic import Field

from byzax.options import PartError

Array = jax.Array

Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Augmentation(Protocol):
    """A random change of training images.

    Images are in units of the data's range (see `byzax.simulator.units`): 0 is the background, which is black, or paper
    where ink is darker than its ground; 1 is the other end of the range.
    """

    def __call__(self, key: Array, x: Array, /) -> Array:
        """Changes every image, each by a draw of its own.

        Args:
            key: Random key.
            x: Images `[b, h, w]` or `[b, h, w, c]`, floating point.

        Returns:
            The changed images, of the shape of `x`.

        Raises:
            PartError: For samples that are not images.
        """
        ...


class ImageChange(Protocol):
    """The change that an augmentation makes to a single image."""

    def __call__(self, key: Array, image: Array, /) -> Array:
        """Changes one image.

        Args:
            key: Random key of this image alone.
            image: `[h, w, c]`, in units of the data's range.

        Returns:
            The changed image `[h, w, c]`.
        """
        ...


def build_augmentation(name: str, change: ImageChange) -> Augmentation:
    """Builds an augmentation from the change of a single image.

    Args:
        name: Name of the augmentation, for messages.
        change: The change; it gets a different key for every image.

    Returns:
        The augmentation. Images without an axis of colours get one, of length 1, for the time of the change.
    """

    def augment(key: Array, x: Array) -> Array:
        if x.ndim not in (3, 4) or not jnp.issubdtype(x.dtype, jnp.floating):
            raise PartError(
                f"{name} is for images [height, width] or [height, width, colours], and samples of this data are "
                f"{x.dtype}{list(x.shape[1:])}: leave it out of data.augment"
            )
        images = x if x.ndim == 4 else x[..., None]
        return jax.vmap(change)(jax.random.split(key, len(x)), images).reshape(x.shape)

    return augment


def resample(image: Array, rows: Array, columns: Array) -> Array:
    """Reads an image at arbitrary positions, with bilinear interpolation.

    Args:
        image: `[h, w, c]`.
        rows: Row of each position, `[h, w]`, counted from the first pixel; need not be whole.
        columns: Column of each position, `[h, w]`.

    Returns:
        The values `[h, w, c]`; 0 outside the image.
    """
    return jax.vmap(lambda colour: map_coordinates(colour, [rows, columns], order=1), in_axes=-1, out_axes=-1)(image)


def centred_coordinates(image: Array) -> tuple[Array, Array]:
    """Row and column of every pixel, counted from the middle of the image.

    Args:
        image: `[h, w, c]`.

    Returns:
        Rows and columns, `[h, w]` each.
    """
    height, width = image.shape[:2]
    rows, columns = jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2
    return jnp.broadcast_to(rows[:, None], (height, width)), jnp.broadcast_to(columns, (height, width))


def from_first_pixel(image: Array, rows: Array, columns: Array) -> tuple[Array, Array]:
    """Coordinates counted from the middle of an image, recounted from its first pixel.

    Args:
        image: `[h, w, c]`.
        rows: Rows `[h, w]`, counted from the middle.
        columns: Columns `[h, w]`, counted from the middle.

    Returns:
        Rows and columns, `[h, w]` each.
    """
    return rows + (image.shape[0] - 1) / 2, columns + (image.shape[1] - 1) / 2
