"""A rule, an attack and a model that an installed package adds to byzax."""

from typing import Annotated

import jax
import jax.numpy as jnp
from pydantic import Field

from byzax.aggregators import Aggregator, Info
from byzax.aggregators.base import stateless
from byzax.attacks import Attack, View
from byzax.attacks.base import stateless as stateless_attack
from byzax.models import Model
from byzax.models.softmax import softmax


def midrange(n: int, f: int, *, trim: Annotated[int, Field(ge=0)] = 0) -> Aggregator:
    """The middle between the smallest and the largest value of each coordinate, `[n, d] -> [d]`.

    Args:
        n: Rows.
        f: Byzantine rows among them.
        trim: Values that are left out on each side first.
    """

    def aggregate(rows: jax.Array) -> tuple[jax.Array, Info]:
        ordered = jnp.sort(rows, axis=0)
        return (ordered[trim] + ordered[n - 1 - trim]) / 2, Info()

    return stateless(n, aggregate)


def mirrored(n: int, f: int) -> Attack:
    """The mean of the known rows with the other sign."""

    def forged(key: jax.Array, view: View) -> jax.Array:
        return -jnp.where(view.known[:, None], view.rows, 0).sum(axis=0) / view.known.sum()

    return stateless_attack(forged)


def affine(shape: tuple[int, ...], classes: int | None) -> Model:
    """Softmax regression under another name."""
    return softmax(shape, classes)
