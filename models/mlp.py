"""Fully connected network."""

import itertools
import math

from flax import nnx

from byzax.models._layers import (
    ACTIVATIONS,
    INITIALISERS,
    Activation,
    Array,
    Initialiser,
    Norm,
    dropout,
    dropped,
    grouped,
    known,
    norm,
    outputs_of,
)
from byzax.models.base import Model, check, from_module


class Perceptron(nnx.Module):
    def __init__(
        self, sizes: tuple[int, ...], activation: str, initialiser: str, rate: float, kind: Norm, groups: int,
        rngs: nnx.Rngs,
    ):  # fmt: skip
        *hidden, last = itertools.pairwise(sizes)
        start = INITIALISERS[initialiser]
        self.hidden = nnx.List([nnx.Linear(a, b, kernel_init=start, rngs=rngs) for a, b in hidden])
        self.output = nnx.Linear(*last, kernel_init=start, rngs=rngs)
        self.norms = nnx.List([norm(kind, size, groups, rngs) for _, size in hidden])
        self.drop = dropout(rate, rngs)
        self.activation = ACTIVATIONS[activation]

    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for layer, normed in zip(self.hidden, self.norms, strict=True):
            x = self.drop(self.activation(normed(layer(x))))
        return self.output(x)


def mlp(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    hidden: tuple[int, ...] = (64,),
    activation: Activation = "relu",
    initialiser: Initialiser = "lecun_normal",
    dropout: float = 0.0,
    norm: Norm = "none",
    groups: int = 8,
) -> Model:
    """A multi-layer perceptron: the flattened sample, `hidden` layers of the given sizes, one linear output layer.

    A hidden layer is linear, norm, activation, dropout. Where the data has values in place of classes the output is one
    number. By default weights start from N(0, 1/inputs of the layer), cut off at two standard deviations (LeCun);
    biases start from 0.

    Parameters: the sum of (inputs + 1) * outputs over the layers; 79,510 for 28x28 images, hidden (100,), 10 classes
    Source: the 784-100-10 network of El Mhamdi et al. 2018 with hidden (100,)

    Args:
        hidden: size of each hidden layer; an empty tuple gives softmax or linear regression.
        activation: what follows each hidden layer.
        initialiser: of all weights, as jax.nn.initializers calls it.
        dropout: share of the hidden units that are set to 0 while training.
        norm: of the hidden layers, two parameters more for each of their units; batch: by the statistics of the batch
            at hand in training, and of 500 fixed training samples when evaluated.
        groups: how many a hidden layer is divided into for norm group.

    Raises:
        ValueError: for a size below 1, an unknown name, a share or groups out of range, fewer than two classes or an
            impossible shape.
    """
    check(shape, classes)
    if any(size < 1 for size in hidden):
        raise ValueError(f"mlp needs hidden sizes >= 1, got {tuple(hidden)}")
    known("mlp", "activation", activation, ACTIVATIONS)
    known("mlp", "initialiser", initialiser, INITIALISERS)
    dropped("mlp", dropout)
    grouped("mlp", norm, groups, hidden)
    sizes = (math.prod(shape), *hidden, outputs_of(classes))
    return from_module(lambda rngs: Perceptron(sizes, activation, initialiser, dropout, norm, groups, rngs), classes)
