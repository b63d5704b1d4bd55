"""What a model is: the type shared by every file of this folder, and the one place where parameters become flat."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree

Array = jax.Array


class Model(NamedTuple):
    """A classifier, or a regression, over one flat parameter vector `[d]`, as pure functions.

    `init(key)` gives the parameters `[d]`, float32. `loss(params, x, y, key=None)` gives what is trained, a scalar: the
    mean of the batch's losses, and the model's own penalty where it has one; `key` is what dropout draws from, without
    one nothing is dropped. `predict(params, x)` gives the outputs, nothing dropped: logits `[b, classes]`, or values
    `[b]` of a regression. `judge(outputs, y)` gives `(losses [b], right [b])` of each sample by itself: cross-entropy
    and whether the largest logit is the label's, or squared error and NaN.
    """

    init: Callable[[Array], Array]
    loss: Callable[..., Array]
    predict: Callable[[Array, Array], Array]
    judge: Callable[[Array, Array], tuple[Array, Array]]


def from_module(
    create: Callable[[nnx.Rngs], nnx.Module],
    classes: int | None,
    penalty: Callable[[nnx.State], Array] | None = None,
    name: str = "a model",
) -> Model:
    """The model of a flax NNX module; errors begin with `name`.

    `create(rngs)` makes the module, which maps samples `x` `[b, ...]` to logits `[b, classes]`, or to `[b, 1]` or `[b]`
    where `classes` is None. The loss is the mean softmax cross-entropy with integer labels, or the mean squared error,
    and `penalty(parameters)` on top. The module is split once, here; outside there is one flat vector, in the order of
    the module's sorted paths. Dropout (`nnx.Dropout`) is the one thing beside parameters that a module may hold: its
    random state is made from the key of each call.

    Raises ValueError where the module holds anything else, such as batch statistics: it would not travel in the flat
    vector; and where it has no parameters, or gives what is neither.
    """
    module = nnx.eval_shape(lambda: create(nnx.Rngs(0)))
    _, shapes, chance, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
    if jax.tree.leaves(rest):
        kept = ", ".join(".".join(map(str, path)) for path, _ in nnx.to_flat_state(rest))
        raise ValueError(
            f"a model may hold parameters (nnx.Param) only, this one also holds {kept}: what stands beside the "
            "parameters would reach neither the server nor the other workers; of norms take nnx.LayerNorm, "
            "nnx.GroupNorm or one that keeps no running statistics"
        )
    module.train()
    training = nnx.graphdef(module)
    module.eval()
    judging = nnx.graphdef(module)

    def outputs(params: nnx.State, x: Array, key: Array | None) -> Array:
        drawn = _seeded(chance, key)
        return nnx.merge(judging if key is None else training, params, drawn, rest)(x)  # pyright: ignore[reportCallIssue]

    return flat(lambda key: nnx.state(create(nnx.Rngs(key)), nnx.Param), shapes, outputs, classes, penalty, name)


def flat(
    start: Callable[[Array], Any],
    shapes: Any,
    outputs: Callable[[Any, Array, Array | None], Array],
    classes: int | None,
    penalty: Callable[[Any], Array] | None = None,
    name: str = "a model",
) -> Model:
    """The model of functions over a tree of parameters: here, and nowhere else, a tree becomes one vector.

    `start(key)` gives the tree, whose leaves are like those of `shapes`. `outputs(tree, x, key)` gives the logits, or
    the values as `[b]` or `[b, 1]`; with a key it drops units.

    Raises ValueError, beginning with `name`, where the tree has no leaf; when used, for outputs of another shape.
    """
    if not jax.tree.leaves(shapes):
        raise ValueError(f"{name} needs parameters that can be trained, and has none")
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    judge = measured if classes is None else classified

    def given(tree: Any, x: Array, key: Array | None) -> Array:
        out = outputs(tree, x, key)
        shape = getattr(out, "shape", None)
        if shape not in ([(len(x),), (len(x), 1)] if classes is None else [(len(x), classes)]):
            wanted = f"values [{len(x)}] or [{len(x)}, 1]" if classes is None else f"logits [{len(x)}, {classes}]"
            got = type(out).__name__ if shape is None else list(shape)
            raise ValueError(f"{name} must give {wanted} for samples {list(x.shape)}, got {got}")
        return out[:, 0] if classes is None and out.ndim == 2 else out

    def init(key: Array) -> Array:
        return ravel_pytree(start(key))[0]

    def predict(params: Array, x: Array) -> Array:
        return given(unravel(params), x, None)

    def loss(params: Array, x: Array, y: Array, key: Array | None = None) -> Array:
        tree = unravel(params)
        mean = judge(given(tree, x, key), y)[0].mean()
        return mean if penalty is None else mean + penalty(tree)

    return Model(init, loss, predict, judge)


def _seeded(chance: nnx.State, key: Array | None) -> nnx.State:
    """The random state of a module's layers, made anew from a key; they use none where there is no key."""
    leaves, tree = jax.tree.flatten(chance)
    own = jax.random.key(0) if key is None else key
    # keys of streams, and counts of what was drawn from them
    made = [
        jax.random.fold_in(own, i) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jnp.zeros((), leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, made)


def classified(logits: Array, y: Array) -> tuple[Array, Array]:
    """`judge` of a classifier: the cross-entropies `[b]` of labels `y` `[b]`, and whether it has the largest logit."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, y), jnp.argmax(logits, axis=-1) == y


def measured(values: Array, y: Array) -> tuple[Array, Array]:
    """`judge` of a regression: the squared errors `[b]`, and NaN `[b]`, for nothing is right or wrong."""
    return jnp.square(values - y), jnp.full(y.shape, jnp.nan)


def check(shape: tuple[int, ...], classes: int | None) -> None:
    """Raises ValueError unless `shape` is that of one sample, and `classes` a number of labels or None (regression)."""
    if not shape or min(shape) < 1:
        raise ValueError(f"one sample needs a shape of positive sizes such as (28, 28), got {tuple(shape)}")
    if classes is not None and classes < 2:
        raise ValueError(f"a classifier needs classes >= 2, got {classes}")
