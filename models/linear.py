"""Linear regression."""

import math

from byzax.models._affine import affine
from byzax.models._layers import Initialiser
from byzax.models.base import Model, check


def linear(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    initialiser: Initialiser = "zeros",
) -> Model:
    """Linear regression over the flattened sample: least squares, with l2 ridge, with l1 lasso; its loss is convex.

    The loss is mean (x w + b - y)² + l1 |w|_1 + l2 |w|², penalties of the weights and not of the bias, which starts
    from 0.

    Parameters: features + 1
    Source: Hoerl and Kennard, Technometrics 1970 (ridge); Tibshirani, JRSS B 1996 (lasso); with both Zou and Hastie,
    JRSS B 2005 (elastic net)

    Args:
        l1: weight of the sum of absolute values.
        l2: weight of the sum of squares.
        initialiser: of the weights, as jax.nn.initializers calls it.

    Raises:
        ValueError: for a negative penalty, an unknown initialiser, data with classes or a shape without positive sizes.
    """
    check(shape, classes)
    if classes is not None:
        raise ValueError(f"linear needs data with values, this has {classes} classes: take the model softmax or mlp")
    return affine("linear", math.prod(shape), classes, l1, l2, initialiser)
