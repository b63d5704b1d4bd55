"""Distances of honest rows from their mean and from each other, and the directions in which rows are moved away."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from byzax.attacks.base import Array, View, honest_deviation, honest_mean

Perturbation = Literal["unit", "sign", "std"]


def honest_distances(view: View) -> tuple[Array, Array]:
    """Squared distances of the known honest rows.

    Args:
        view: The update.

    Returns:
        Those to their mean `[n]`, and those between each other `[n, n]`; 0 for other rows.
    """
    mean = honest_mean(view)
    honest = view.known
    # from the mean: what all rows share is gone before anything is squared
    centred = jnp.where(honest[:, None], view.rows.astype(mean.dtype) - mean, 0)
    to_mean = jnp.square(centred).sum(axis=1)
    products = jnp.matmul(centred, centred.T, precision=jax.lax.Precision.HIGHEST)
    between = jnp.maximum(to_mean[:, None] + to_mean[None, :] - 2 * products, 0)
    return to_mean, jnp.where(honest[:, None] & honest[None, :], between, 0)


def build_direction(perturbation: Perturbation) -> Callable[[View], Array]:
    """The direction in which an attack moves rows, away from the honest mean and against it.

    Args:
        perturbation: unit, the mean at length 1; sign, its signs; std, the honest standard deviations (ddof 0).

    Returns:
        A function of the update that gives the direction `[d]`.
    """

    def direction(view: View) -> Array:
        if perturbation == "std":
            return -honest_deviation(view)
        mean = honest_mean(view)
        if perturbation == "sign":
            return -jnp.sign(mean)
        length = jnp.linalg.norm(mean)
        return -mean / jnp.where(length > 0, length, 1)

    return direction
