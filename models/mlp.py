"""Fully connected network."""

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from models.base import Array, Model, check, from_module

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": nnx.relu,
    "tanh": jnp.tanh,
    "sigmoid": nnx.sigmoid,
    "gelu": nnx.gelu,
    "elu": nnx.elu,
}


class Perceptron(nnx.Module):
    def __init__(self, sizes: tuple[int, ...], activation: Callable[[Array], Array], rngs: nnx.Rngs):
        *hidden, last = itertools.pairwise(sizes)
        self.hidden = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in hidden])
        self.output = nnx.Linear(*last, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for layer in self.hidden:
            x = self.activation(layer(x))
        return self.output(x)


def mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    hidden: tuple[int, ...] = (64,),
    activation: Literal["relu", "tanh", "sigmoid", "gelu", "elu"] = "relu",
) -> Model:
    """A multi-layer perceptron: the flattened sample, `hidden` layers of the given sizes, one linear output layer.

    All weights start from N(0, 1/inputs of the layer), cut off at two standard deviations (LeCun), the biases from 0.

    Parameters: the sum of (inputs + 1) * outputs over the layers; 79,510 for 28x28 images, hidden (100,), 10 classes
    Source: the 784-100-10 network of El Mhamdi et al. 2018 with hidden (100,)

    Args:
        hidden: size of each hidden layer; an empty tuple gives softmax regression.
        activation: what follows each hidden layer.

    Raises:
        ValueError: for a size below 1, an unknown activation, fewer than two classes or an impossible shape.
    """
    check(shape, classes)
    if any(size < 1 for size in hidden):
        raise ValueError(f"mlp needs hidden sizes >= 1, got {tuple(hidden)}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"mlp knows the activations {', '.join(ACTIVATIONS)}, got {activation!r}")
    sizes = (math.prod(shape), *hidden, classes)
    return from_module(lambda rngs: Perceptron(sizes, ACTIVATIONS[activation], rngs))
