"""One linear layer over the flattened sample, with penalties: the common part of softmax and linear."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from byzax.models._layers import INITIALISERS, Array, Initialiser, num_outputs
from byzax.models.base import Model, from_module


class Affine(nnx.Module):
    """One linear layer over the flattened sample, `[b, ...] -> [b, outputs]`."""

    def __init__(self, features: int, outputs: int, initialiser: Initialiser, rngs: nnx.Rngs):
        self.output = nnx.Linear(features, outputs, kernel_init=INITIALISERS[initialiser], rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.output(x.reshape(x.shape[0], -1))


def build_affine(features: int, classes: int | None, l1: float, l2: float, initialiser: Initialiser) -> Model:
    """The model of one linear layer, with l1 |W|_1 + l2 |W|² added to its loss."""

    def penalty(params: nnx.State) -> Array:
        weights: Any = params["output"]["kernel"][...]
        return l1 * jnp.abs(weights).sum() + l2 * jnp.square(weights).sum()

    def create(rngs: nnx.Rngs) -> nnx.Module:
        return Affine(features, num_outputs(classes), initialiser, rngs)

    return from_module(create, classes, penalty if l1 or l2 else None)
