"""Linear regression, with ridge and lasso."""

import math

from byzax.models._affine import build_affine
from byzax.models._layers import Initialiser
from byzax.models.base import Model, NotNegative, check
from byzax.options import PartError, checked


@checked
def linear(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    l1: NotNegative = 0.0,
    l2: NotNegative = 0.0,
    initialiser: Initialiser = "zeros",
) -> Model:
    """Linear regression over the flattened sample: least squares, with l2 ridge, with l1 lasso; its loss is convex.

    The loss is mean (x w + b - y)² + l1 |w|_1 + l2 |w|², penalties of the weights and not of the bias, which starts
    from 0.

    Size: features + 1

    Args:
        shape: Of one sample.
        classes: None; data with labels is refused.
        l1: Weight of the sum of absolute values.
        l2: Weight of the sum of squares.
        initialiser: Of the weights, as jax.nn.initializers calls it.

    Returns:
        The model.

    Raises:
        PartError: For data with labels, or a shape without positive sizes.
        OptionError: For an option out of its range.

    References:
        Hoerl and Kennard, Technometrics 1970 (ridge)
        Tibshirani, JRSS B 1996 (lasso)
        Zou and Hastie, JRSS B 2005 (elastic net: both)
    """
    check(shape, classes)
    if classes is not None:
        raise PartError(f"linear needs data with values, this has {classes} classes: take the model softmax or mlp")
    return build_affine(math.prod(shape), classes, l1, l2, initialiser)
