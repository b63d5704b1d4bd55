"""Fully connected network (multi-layer perceptron)."""

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
    build_dropout,
    build_norm,
    check_groups,
    num_outputs,
)
from byzax.models.base import Count, DropoutRate, Model, check, from_module
from byzax.options import checked


class Perceptron(nnx.Module):
    """Linear layers, each but the last with norm, activation and dropout, over the flattened sample."""

    def __init__(
        self, sizes: tuple[int, ...], activation: Activation, initialiser: Initialiser, dropout: float, norm: Norm,
        groups: int, rngs: nnx.Rngs,
    ):  # fmt: skip
        *hidden, last = itertools.pairwise(sizes)
        start = INITIALISERS[initialiser]
        self.hidden = nnx.List([nnx.Linear(a, b, kernel_init=start, rngs=rngs) for a, b in hidden])
        self.output = nnx.Linear(*last, kernel_init=start, rngs=rngs)
        self.norms = nnx.List([build_norm(norm, size, groups, rngs) for _, size in hidden])
        self.drop = build_dropout(dropout, rngs)
        self.activate = ACTIVATIONS[activation]

    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for layer, normalise in zip(self.hidden, self.norms, strict=True):
            x = self.drop(self.activate(normalise(layer(x))))
        return self.output(x)


@checked
def mlp(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    hidden: tuple[Count, ...] = (64,),
    activation: Activation = "relu",
    initialiser: Initialiser = "lecun_normal",
    dropout: DropoutRate = 0.0,
    norm: Norm = "none",
    groups: Count = 8,
) -> Model:
    """A multi-layer perceptron: the flattened sample, `hidden` layers of the given sizes, one linear output layer.

    A hidden layer is linear, norm, activation, dropout. Where the data has values in place of classes the output is one
    number. By default weights start from N(0, 1/inputs of the layer), cut off at two standard deviations (LeCun);
    biases start from 0.

    Size: the sum of (inputs + 1) * outputs over the layers; 79,510 for 28x28 images, hidden (100,), 10 classes

    Args:
        shape: Of one sample.
        classes: The number of labels; None for a regression.
        hidden: Size of each hidden layer; an empty tuple gives softmax or linear regression.
        activation: After each hidden layer.
        initialiser: Of all weights, as jax.nn.initializers calls it.
        dropout: Share of the hidden units that are set to 0 while training.
        norm: Of the hidden layers, two parameters more for each of their units; batch: by the statistics of the batch
            at hand in training, and of 500 fixed training samples when evaluated.
        groups: Number of groups of a hidden layer, for norm group.

    Returns:
        The model.

    Raises:
        PartError: For fewer than two classes or a shape without positive sizes.
        OptionError: For an option out of its range, or groups that do not divide a hidden layer.

    References:
        The 784-100-10 network of El Mhamdi et al. 2018 with hidden (100,)
    """
    check(shape, classes)
    check_groups(norm, groups, hidden)
    sizes = (math.prod(shape), *hidden, num_outputs(classes))

    def create(rngs: nnx.Rngs) -> nnx.Module:
        return Perceptron(sizes, activation, initialiser, dropout, norm, groups, rngs)

    return from_module(create, classes, least_batch=2 if norm == "batch" and hidden else 1)
