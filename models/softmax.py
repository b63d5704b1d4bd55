"""Softmax regression (multinomial logistic regression)."""

import math

from byzax.models._affine import build_affine
from byzax.models._layers import Initialiser
from byzax.models.base import Model, NotNegative, check
from byzax.options import PartError, checked


@checked
def softmax(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    l1: NotNegative = 0.0,
    l2: NotNegative = 0.0,
    initialiser: Initialiser = "lecun_normal",
) -> Model:
    """Softmax regression: one linear layer over the flattened sample; its loss is convex.

    The loss is the mean cross-entropy + l1 |W|_1 + l2 |W|², penalties of the weights and not of the biases. By default
    the weights start from N(0, 1/features), cut off at two standard deviations (LeCun); the biases start from 0.

    Size: features * classes + classes; 7,850 for 28x28 images and 10 classes

    Args:
        shape: Of one sample.
        classes: The number of labels; data with values is refused.
        l1: Weight of the sum of absolute values.
        l2: Weight of the sum of squares.
        initialiser: Of the weights, as jax.nn.initializers calls it.

    Returns:
        The model.

    Raises:
        PartError: For data with values in place of labels, fewer than two classes or a shape without positive sizes.
        OptionError: For an option out of its range.

    References:
        The multinomial logistic regression of any textbook, for instance Bishop 2006, section 4.3.4
    """
    check(shape, classes)
    if classes is None:
        raise PartError("softmax needs data with classes, this has values: take the model linear or mlp")
    return build_affine(math.prod(shape), classes, l1, l2, initialiser)
