"""What an augmentation is: the type and the tools shared by every file of this folder."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

Array = jax.Array

# (key, images [b, h, w] or [b, h, w, c]) -> images of the same shape, each changed by a draw of its own. They come in
# units of the data's range, in which 0 is the background: black, or paper where ink is darker (simulator/units.py)
Augmentation = Callable[[Array, Array], Array]


def each(name: str, change: Callable[[Array, Array], Array]) -> Augmentation:
    """The augmentation that makes `change(key, image [h, w, c])` of each image, with a key of its own.

    It raises ValueError for samples that are no images: those have two dimensions, or three with the colours last.
    """

    def augment(key: Array, x: Array) -> Array:
        if x.ndim not in (3, 4) or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"{name} is for images [height, width] or [height, width, colours], and samples of this data are "
                f"{x.dtype}{list(x.shape[1:])}: leave it out of data.augment"
            )
        images = x if x.ndim == 4 else x[..., None]
        return jax.vmap(change)(jax.random.split(key, len(x)), images).reshape(x.shape)

    return augment


def resampled(image: Array, rows: Array, columns: Array) -> Array:
    """What an image `[h, w, c]` holds at these places `[h, w]`, between pixels in proportion, and 0 outside."""
    return jax.vmap(lambda colour: map_coordinates(colour, [rows, columns], order=1), in_axes=-1, out_axes=-1)(image)


def places(image: Array) -> tuple[Array, Array]:
    """Row and column of every pixel, seen from the middle of the image: `[h, w]` each."""
    height, width = image.shape[:2]
    rows, columns = jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2
    return jnp.broadcast_to(rows[:, None], (height, width)), jnp.broadcast_to(columns, (height, width))


def from_middle(image: Array, rows: Array, columns: Array) -> tuple[Array, Array]:
    """Places seen from the middle of the image as those seen from its first pixel."""
    return rows + (image.shape[0] - 1) / 2, columns + (image.shape[1] - 1) / 2
