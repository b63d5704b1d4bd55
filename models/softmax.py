"""Multinomial logistic regression."""

import math

from flax import nnx

from models.base import Array, Model, check, from_module


class Softmax(nnx.Module):
    def __init__(self, features: int, classes: int, rngs: nnx.Rngs):
        self.output = nnx.Linear(features, classes, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.output(x.reshape(x.shape[0], -1))


def softmax(shape: tuple[int, ...], classes: int) -> Model:
    """Softmax regression: one linear layer over the flattened sample; its loss is convex.

    The weights start from N(0, 1/features), cut off at two standard deviations (LeCun), the biases from 0.

    Parameters: features * classes + classes; 7,850 for 28x28 images and 10 classes
    Source: the multinomial logistic regression of any textbook, for instance Bishop 2006, section 4.3.4

    Raises:
        ValueError: for fewer than two classes or a shape without positive sizes.
    """
    check(shape, classes)
    features = math.prod(shape)
    return from_module(lambda rngs: Softmax(features, classes, rngs))
