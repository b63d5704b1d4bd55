"""Units of the data's range: 0 is the background and 1 the other end, whatever numbers the data is stored in."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.data.base import Dataset

Array = jax.Array


class Units(NamedTuple):
    """The range of the data: one number each for images and all other samples with several axes, `[p]` for tables.

    Attributes:
        background: The value of an empty place: the lowest one, or the highest one where ink is darker than paper.
        width: Difference between the other end of the range and `background`, negative where that is the highest
            value; 1 where all values are equal.
    """

    background: Array
    width: Array


def measure_units(data: Dataset) -> Units | None:
    """Measures the range of all samples of a data set.

    Args:
        data: The data set.

    Returns:
        The units; None for characters.
    """
    if not np.issubdtype(data.dtype, np.floating):
        return None
    axes = 0 if data.x.ndim == 2 else None
    low, high = (data.decode(extreme) for extreme in (data.x.min(axis=axes), data.x.max(axis=axes)))
    background, other = (high, low) if data.background == "high" else (low, high)
    width = np.where(other == background, 1, other - background)
    return Units(jnp.asarray(background, jnp.float32), jnp.asarray(width, jnp.float32))


def change_in_units(units: Units | None, x: Array, change: Callable[[Array], Array]) -> Array:
    """Applies a change that is defined in units of the range, such as a trigger or an augmentation.

    Args:
        units: The units; None applies the change to the stored values.
        x: Stored samples `[b, ...]`.
        change: Maps samples `[b, ...]` in units of the range to changed ones.

    Returns:
        The changed samples as they are stored. Values that `change` leaves alone keep their bits.
    """
    if units is None:
        return change(x)
    shares = (x - units.background) / units.width
    changed = change(shares)
    return jnp.where(changed == shares, x, (units.background + changed * units.width).astype(x.dtype))
