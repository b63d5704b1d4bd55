"""One linear layer over the flattened sample, with penalties: what softmax and linear have in common."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from byzax.models._layers import INITIALISERS, Array, known, outputs_of
from byzax.models.base import Model, from_module


class Affine(nnx.Module):
    def __init__(self, features: int, outputs: int, initialiser: str, rngs: nnx.Rngs):
        self.output = nnx.Linear(features, outputs, kernel_init=INITIALISERS[initialiser], rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.output(x.reshape(x.shape[0], -1))


def affine(name: str, features: int, classes: int | None, l1: float, l2: float, initialiser: str) -> Model:
    """The model, with l1 |W|_1 + l2 |W|² added to its loss. Raises ValueError for an option out of range."""
    if min(l1, l2) < 0:
        raise ValueError(f"{name} needs penalties l1 >= 0 and l2 >= 0, got l1={l1}, l2={l2}")
    known(name, "initialiser", initialiser, INITIALISERS)

    def penalty(params: nnx.State) -> Array:
        weights: Any = params["output"]["kernel"][...]
        return l1 * jnp.abs(weights).sum() + l2 * jnp.square(weights).sum()

    return from_module(
        lambda rngs: Affine(features, outputs_of(classes), initialiser, rngs), classes, penalty if l1 or l2 else None
    )
