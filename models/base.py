"""What a model is: the type shared by every file of this folder, and the one place where parameters become flat."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

Array = jax.Array


class Model(NamedTuple):
    """A classifier over one flat parameter vector `[d]`, as pure functions.

    `init(key)` gives the parameters `[d]`, float32. `predict(params, x)` gives the logits `[b, classes]`.
    `loss(params, x, y)` gives the mean loss over the batch, a scalar.
    """

    init: Callable[[Array], Array]
    loss: Callable[[Array, Array, Array], Array]
    predict: Callable[[Array, Array], Array]


def from_module(create: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """The model of a flax NNX module.

    `create(rngs)` makes the module, which maps samples `x` `[b, ...]` to logits `[b, classes]`. The loss is the mean
    softmax cross-entropy with integer labels. The module is split once, here; outside there is one flat vector, in the
    order of the module's sorted paths.

    Raises ValueError where the module holds more than parameters (batch statistics, dropout's random state): those
    would not travel in the flat vector.
    """
    graph, shapes, rest = nnx.split(nnx.eval_shape(lambda: create(nnx.Rngs(0))), nnx.Param, ...)
    if jax.tree.leaves(rest):
        kept = ", ".join(".".join(map(str, path)) for path, _ in nnx.to_flat_state(rest))
        raise ValueError(f"a model may hold parameters (nnx.Param) only, this one also holds {kept}")
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))

    def init(key: Array) -> Array:
        return ravel_pytree(nnx.state(create(nnx.Rngs(key)), nnx.Param))[0]

    def predict(params: Array, x: Array) -> Array:
        return nnx.merge(graph, unravel(params), rest)(x)  # pyright: ignore[reportCallIssue]

    def loss(params: Array, x: Array, y: Array) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(predict(params, x), y).mean()

    return Model(init, loss, predict)


def check(shape: tuple[int, ...], classes: int) -> None:
    """Raises ValueError unless `shape` is the shape of one sample and `classes` a number of labels."""
    if not shape or min(shape) < 1:
        raise ValueError(f"one sample needs a shape of positive sizes such as (28, 28), got {tuple(shape)}")
    if classes < 2:
        raise ValueError(f"a classifier needs classes >= 2, got {classes}")
