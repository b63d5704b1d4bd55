"""What a model is: the type shared by every file of this folder."""

from collections.abc import Callable
from typing import NamedTuple

import jax

Array = jax.Array


class Model(NamedTuple):
    """A classifier over one flat parameter vector `[d]`, as pure functions.

    `init(key)` gives the parameters `[d]`, float32. `predict(params, x)` gives the logits `[b, classes]`.
    `loss(params, x, y)` gives the mean loss over the batch, a scalar.
    """

    init: Callable[[Array], Array]
    loss: Callable[[Array, Array, Array], Array]
    predict: Callable[[Array, Array], Array]
