"""Samples in units of their data's range: 0 is the background and 1 the other end, whatever the data is stored in."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.simulator.data.base import Dataset

Array = jax.Array


class Units(NamedTuple):
    """The range of the data: one number each for images and all other samples of several axes, `[features]` for tables.

    `background`: what is seen where nothing is: the lowest value, or the highest where ink is darker than paper.
    `width`: how far the other end lies from it, with its sign; 1 where all values are equal.
    """

    background: Array
    width: Array


def units(data: Dataset) -> Units | None:
    """The range of all samples of a data set; None for characters."""
    if not np.issubdtype(data.x.dtype, np.floating):
        return None
    axes = 0 if data.x.ndim == 2 else None
    low, high = data.x.min(axis=axes), data.x.max(axis=axes)
    background, other = (high, low) if data.background == "high" else (low, high)
    width = np.where(other == background, 1, other - background)
    return Units(jnp.asarray(background, jnp.float32), jnp.asarray(width, jnp.float32))


def changed(unit: Units | None, x: Array, change: Callable[[Array], Array]) -> Array:
    """Samples `[b, ...]` after `change`, which sees them in units of the range; characters as they are.

    Values that it leaves alone stay the same bits.
    """
    if unit is None:
        return change(x)
    given = (x - unit.background) / unit.width
    made = change(given)
    return jnp.where(made == given, x, (unit.background + made * unit.width).astype(x.dtype))
