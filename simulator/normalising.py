"""Feature scaling, fitted on the training samples."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from byzax.options import PartError
from byzax.simulator.data.base import Dataset

Normalise = Literal["none", "unit", "standard", "per_channel", "per_feature"]
# samples read at once: their sums are taken in float64 without a copy of all samples
BLOCK = 4096


class Scaling(NamedTuple):
    """An affine map of samples: x becomes (x - centre) * factor.

    Attributes:
        centre: A number, `[c]` for the colours of images, or the shape of a sample.
        factor: The same.
    """

    centre: jax.Array
    factor: jax.Array


def fit_scaling(how: Normalise, data: Dataset, train: np.ndarray) -> Scaling | None:
    """Fits the scaling of samples on the training samples alone.

    Args:
        how: "unit" maps the numbers of the training samples to [0, 1]; "standard" to mean 0 and deviation 1 over all
            numbers, "per_channel" over those of each colour (the last of three axes), "per_feature" at each place of a
            sample. What is constant becomes 0. "none" leaves samples as they are.
        data: The data set.
        train: Positions of the training samples.

    Returns:
        The scaling; None for "none".

    Raises:
        PartError: For samples that are characters, or have no colours where these are needed.
    """
    if how == "none":
        return None
    x = data.x
    if not np.issubdtype(data.dtype, np.floating):
        raise PartError(f"{how} is for numbers, and samples of this data are characters: leave it out")
    if how == "per_channel" and x.ndim != 4:
        raise PartError(
            f"per_channel is for images [height, width, colours], and samples of this data are "
            f"{list(x.shape[1:])}: take standard or per_feature"
        )
    blocks = [train[start : start + BLOCK] for start in range(0, len(train), BLOCK)]
    if how == "unit":
        low, high = (
            min(float(data.values(block).min()) for block in blocks),
            max(float(data.values(block).max()) for block in blocks),
        )
        return _build_scaling(np.array(low), np.array(high - low))
    axes = {"standard": tuple(range(x.ndim)), "per_channel": (0, 1, 2), "per_feature": (0,)}[how]
    count = len(train) * math.prod(x.shape[axis] for axis in axes[1:])
    mean = sum(data.values(block).sum(axis=axes, dtype=np.float64) for block in blocks) / count
    # a second pass: the mean of the squares less the square of the mean is nothing but rounding where they are close
    squares = sum(np.square(data.values(block) - mean).sum(axis=axes, dtype=np.float64) for block in blocks)
    return _build_scaling(np.asarray(mean), np.sqrt(squares / count))


def _build_scaling(centre: np.ndarray, width: np.ndarray) -> Scaling:
    return Scaling(jnp.asarray(centre, jnp.float32), jnp.asarray(1 / np.where(width > 0, width, 1), jnp.float32))


def apply_scaling(scaling: Scaling | None, x: jax.Array) -> jax.Array:
    """Scales samples.

    Args:
        scaling: The scaling; None leaves samples as they are.
        x: Samples `[b, ...]`.

    Returns:
        The scaled samples, of the same shape.
    """
    return x if scaling is None else (x - scaling.centre) * scaling.factor
