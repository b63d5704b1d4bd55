"""Samples brought to one scale, by what the training samples of a run are like."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Normalise = Literal["none", "unit", "standard", "per_channel", "per_feature"]
# samples looked at together: their sums are in float64, and no copy of all of them is made
AT_ONCE = 4096


class Scaling(NamedTuple):
    """x becomes (x - centre) * factor; both are numbers, or `[c]` for colours, or of the shape of a sample."""

    centre: jax.Array
    factor: jax.Array


def scaling(how: Normalise, x: np.ndarray, train: np.ndarray) -> Scaling | None:
    """What brings samples `x` `[N, ...]` to one scale, from the training samples at the positions `train` alone.

    "unit" brings their numbers into [0, 1]; "standard" to mean 0 and deviation 1 over all numbers, "per_channel" over
    those of each colour (the last of three axes), "per_feature" at each place of a sample. What is constant becomes 0.
    None for "none". Raises ValueError for samples that are characters, or have no colours.
    """
    if how == "none":
        return None
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"{how} is for numbers, and samples of this data are characters: leave it out")
    if how == "per_channel" and x.ndim != 4:
        raise ValueError(
            f"per_channel is for images [height, width, colours], and samples of this data are "
            f"{list(x.shape[1:])}: take standard or per_feature"
        )
    blocks = [train[start : start + AT_ONCE] for start in range(0, len(train), AT_ONCE)]
    if how == "unit":
        low, high = min(float(x[block].min()) for block in blocks), max(float(x[block].max()) for block in blocks)
        return _scaling(np.array(low), np.array(high - low))
    axes = {"standard": tuple(range(x.ndim)), "per_channel": (0, 1, 2), "per_feature": (0,)}[how]
    count = len(train) * math.prod(x.shape[axis] for axis in axes[1:])
    mean = sum(x[block].sum(axis=axes, dtype=np.float64) for block in blocks) / count
    # a second pass: the mean of the squares less the square of the mean is nothing but rounding where they are close
    squares = sum(np.square(x[block] - mean).sum(axis=axes, dtype=np.float64) for block in blocks)
    return _scaling(np.asarray(mean), np.sqrt(squares / count))


def _scaling(centre: np.ndarray, width: np.ndarray) -> Scaling:
    return Scaling(jnp.asarray(centre, jnp.float32), jnp.asarray(1 / np.where(width > 0, width, 1), jnp.float32))


def normalised(scaling: Scaling | None, x: jax.Array) -> jax.Array:
    """Samples `[b, ...]` on that scale; as they are without one."""
    return x if scaling is None else (x - scaling.centre) * scaling.factor
