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

    `init(key)` gives the parameters `[d]`, float32. `loss(params, x, y, key=None, shares=None)` gives what is trained,
    a scalar: the mean of the batch's losses, and the model's own penalty where it has one; `key` is what dropout draws
    from, without one nothing is dropped; `shares` `[b]` is what each sample counts, the mean then being the sum of
    shares times losses. `predict(params, x)` gives the outputs, nothing dropped: logits `[b, classes]`, or values `[b]`
    of a regression, each sample's by itself. `judge(outputs, y)` gives `(losses [b], right [b])` of each sample:
    cross-entropy and whether the largest logit is the label's, or squared error and NaN. `statistics(params, x)`: what
    a norm over the batch measures on samples `x`, which is then the third argument of `predict`; None where the model
    has no such norm. `batch`: on a CPU the gradients of several workers are computed together (`vmap`), which is slower
    than one after the other where a model has convolutions.
    """

    init: Callable[[Array], Array]
    loss: Callable[..., Array]
    predict: Callable[..., Array]
    judge: Callable[[Array, Array], tuple[Array, Array]]
    statistics: Callable[[Array, Array], Any] | None = None
    batch: bool = True


class Statistic(nnx.Variable):
    """Statistics of a norm over the batch: measured on the batch at hand while training, given for predictions."""


class Share(nnx.Variable):
    """Weights of the samples of the batch at hand in such a norm, `[b]`; a single number where all count alike."""


class Norming(NamedTuple):
    """The parts of a model with a norm over the batch: `measure(tree, x)` gives statistics, `predict(tree, x,
    statistics)` the outputs by them."""

    measure: Callable[[Any, Array], Any]
    predict: Callable[[Any, Array, Any], Array]


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
    the module's sorted paths. Beside parameters a module may hold dropout (`nnx.Dropout`), whose random state is made
    from the key of each call, and the norm over the batch of `models/_layers.py`.

    Raises ValueError where the module holds anything else, such as batch statistics: it would not travel in the flat
    vector; and where it has no parameters, or gives what is neither.
    """
    module = nnx.eval_shape(lambda: create(nnx.Rngs(0)))
    _, shapes, chance, statistics, share, rest = nnx.split(module, nnx.Param, nnx.RngState, Statistic, Share, ...)
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
    predicting = nnx.graphdef(module)
    # nothing dropped, and norms by the batch at hand
    module.set_attributes(use_running_average=False, raise_if_not_found=False)
    measuring = nnx.graphdef(module)

    def merged(graph: Any, params: nnx.State, key: Array | None, given: Any, counts: Any) -> Any:
        return nnx.merge(graph, params, _seeded(chance, key), given, counts, rest)

    def blank(of: Any) -> Any:
        # made anew in each call: what a norm measures is written there, for what is traced at the time
        return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), of)

    def outputs(params: nnx.State, x: Array, key: Array | None, shares: Array | None) -> Array:
        counts = blank(share) if shares is None else jax.tree.map(lambda leaf: shares, share)
        return merged(measuring if key is None else training, params, key, blank(statistics), counts)(x)

    def measure(params: nnx.State, x: Array) -> Any:
        made = merged(measuring, params, None, blank(statistics), blank(share))
        made(x)
        return nnx.state(made, Statistic)

    def predict(params: nnx.State, x: Array, given: Any) -> Array:
        return merged(predicting, params, None, given, blank(share))(x)

    norming = Norming(measure, predict) if jax.tree.leaves(statistics) else None
    start = lambda key: nnx.state(create(nnx.Rngs(key)), nnx.Param)  # noqa: E731
    return flat(start, shapes, outputs, classes, penalty, name, norming)


def flat(
    start: Callable[[Array], Any],
    shapes: Any,
    outputs: Callable[[Any, Array, Array | None, Array | None], Array],
    classes: int | None,
    penalty: Callable[[Any], Array] | None = None,
    name: str = "a model",
    norming: Norming | None = None,
) -> Model:
    """The model of functions over a tree of parameters: here, and nowhere else, a tree becomes one vector.

    `start(key)` gives the tree, whose leaves are like those of `shapes`. `outputs(tree, x, key, shares)` gives the
    logits, or the values as `[b]` or `[b, 1]`; with a key it drops units, and a norm over the batch, which `norming`
    is for, counts each sample by its share.

    Raises ValueError, beginning with `name`, where the tree has no leaf; when used, for outputs of another shape.
    """
    if not jax.tree.leaves(shapes):
        raise ValueError(f"{name} needs parameters that can be trained, and has none")
    _, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    judge = measured if classes is None else classified

    def checked(out: Any, x: Array) -> Array:
        shape = getattr(out, "shape", None)
        if shape not in ([(len(x),), (len(x), 1)] if classes is None else [(len(x), classes)]):
            wanted = f"values [{len(x)}] or [{len(x)}, 1]" if classes is None else f"logits [{len(x)}, {classes}]"
            got = type(out).__name__ if shape is None else list(shape)
            raise ValueError(f"{name} must give {wanted} for samples {list(x.shape)}, got {got}")
        return out[:, 0] if classes is None and out.ndim == 2 else out

    def init(key: Array) -> Array:
        return ravel_pytree(start(key))[0]

    def loss(params: Array, x: Array, y: Array, key: Array | None = None, shares: Array | None = None) -> Array:
        tree = unravel(params)
        losses = judge(checked(outputs(tree, x, key, shares), x), y)[0]
        mean = losses.mean() if shares is None else (shares * losses).sum()
        return mean if penalty is None else mean + penalty(tree)

    if norming is None:
        return Model(init, loss, lambda params, x: checked(outputs(unravel(params), x, None, None), x), judge)

    def predict(params: Array, x: Array, statistics: Any) -> Array:
        return checked(norming.predict(unravel(params), x, statistics), x)

    return Model(init, loss, predict, judge, lambda params, x: norming.measure(unravel(params), x))


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
    """`judge` of a classifier: the cross-entropies `[b]` of labels `y` `[b]`, and whether it has the largest logit.

    Where a logit is NaN none is the largest, and no label is right. Of equal logits the first is taken.
    """
    right = (jnp.argmax(logits, axis=-1) == y) & ~jnp.isnan(logits).any(axis=-1)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y), right


def measured(values: Array, y: Array) -> tuple[Array, Array]:
    """`judge` of a regression: the squared errors `[b]`, and NaN `[b]`, for nothing is right or wrong."""
    return jnp.square(values - y), jnp.full(y.shape, jnp.nan)


def check(shape: tuple[int, ...], classes: int | None) -> None:
    """Raises ValueError unless `shape` is that of one sample, and `classes` a number of labels or None (regression)."""
    if not shape or min(shape) < 1:
        raise ValueError(f"one sample needs a shape of positive sizes such as (28, 28), got {tuple(shape)}")
    if classes is not None and classes < 2:
        raise ValueError(f"a classifier needs classes >= 2, got {classes}")
