"""Multinomial logistic regression."""

import math

from byzax.models._affine import affine
from byzax.models._layers import Initialiser
from byzax.models.base import Model, check


def softmax(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    initialiser: Initialiser = "lecun_normal",
) -> Model:
    """Softmax regression: one linear layer over the flattened sample; its loss is convex.

    The loss is the mean cross-entropy + l1 |W|_1 + l2 |W|², penalties of the weights and not of the biases. By default
    the weights start from N(0, 1/features), cut off at two standard deviations (LeCun); the biases start from 0.

    Parameters: features * classes + classes; 7,850 for 28x28 images and 10 classes
    Source: the multinomial logistic regression of any textbook, for instance Bishop 2006, section 4.3.4

    Args:
        l1: weight of the sum of absolute values.
        l2: weight of the sum of squares.
        initialiser: of the weights, as jax.nn.initializers calls it.

    Raises:
        ValueError: for a negative penalty, an unknown initialiser, fewer than two classes, values in place of classes
            or a shape without positive sizes.
    """
    check(shape, classes)
    if classes is None:
        raise ValueError("softmax needs data with classes, this has values: take the model linear or mlp")
    return affine("softmax", math.prod(shape), classes, l1, l2, initialiser)
