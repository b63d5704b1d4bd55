"""Types of models, which every file of this folder shares, and the one place where parameters become flat."""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.flatten_util import ravel_pytree
from pydantic import Field

from byzax.models._splitting import arrays_of
from byzax.options import PartError

Array = jax.Array

# types of options
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
DropoutRate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class ModelInit(Protocol):
    """Makes the parameters that training starts from."""

    def __call__(self, key: Array, /) -> Array:
        """Parameters `[d]`, float32."""
        ...


class Loss(Protocol):
    """Measures what is trained."""

    def __call__(
        self, params: Array, x: Array, y: Array, key: Array | None = None, shares: Array | None = None, /
    ) -> Array:
        """The mean of the batch's losses, and the model's own penalty where it has one.

        Args:
            params: `[d]`.
            x: `[b, ...]`, the samples.
            y: `[b]`, their labels or values.
            key: For the random numbers of dropout; without one nothing is dropped.
            shares: `[b]`, the weight of each sample, whose sum is 1: the mean is then the sum of shares times losses.

        Returns:
            The loss, a scalar.
        """
        ...


class Predict(Protocol):
    """Predicts, with nothing dropped."""

    def __call__(self, params: Array, x: Array, /, *args: Any, **kwargs: Any) -> Array:
        """Logits `[b, classes]`, or values `[b]` of a regression, of each sample by itself.

        Args:
            params: `[d]`.
            x: `[b, ...]`, the samples.
            *args: The statistics that `Model.statistics` gave, for a model with a norm over the batch, and only for it.
            **kwargs: None.

        Returns:
            The outputs.
        """
        ...


class JudgeOutputs(Protocol):
    """Compares outputs with what they should be."""

    def __call__(self, outputs: Array, y: Array, /) -> tuple[Array, Array]:
        """The losses `[b]` and whether each output is right `[b]`.

        Cross-entropy and whether the largest logit is the label's; squared error and NaN for a regression.
        """
        ...


class MeasureStatistics(Protocol):
    """Measures what a norm over the batch needs for predictions."""

    def __call__(self, params: Array, x: Array, /) -> Any:
        """The statistics of the norms on samples `[b, ...]`: the third argument of `Model.predict`."""
        ...


class Model(NamedTuple):
    """A classifier, or a regression, over one flat parameter vector `[d]`, as pure functions.

    Attributes:
        init: Makes the parameters that training starts from.
        loss: Measures what is trained.
        predict: Predicts, with nothing dropped.
        judge: Compares outputs with what they should be.
        statistics: Measures what a norm over the batch needs for predictions; None where the model has no such norm.
        batch: Whether the gradients of several workers are computed together (`vmap`) on a CPU. That is slower than one
            after the other where a model has convolutions: those of many kernels at once are grouped ones. It also is
            where a sample has many steps, as sequences have: those of one worker are rows enough for a fast product,
            and those of all workers leave the cache.
        least_batch: The fewest samples of a batch that the model learns from: 2 where a norm is over the samples of the
            batch alone, which is constant for one.
        shapes: The shapes of the arrays of parameters in the order of the vector, by which `powersgd` compresses; None
            where they are one vector.
    """

    init: ModelInit
    loss: Loss
    predict: Predict
    judge: JudgeOutputs
    statistics: MeasureStatistics | None = None
    batch: bool = True
    least_batch: Count = 1
    shapes: tuple[tuple[int, ...], ...] | None = None


class Statistic(nnx.Variable):
    """Statistics of a norm over the batch: measured on the batch at hand while training, given for predictions."""


class Share(nnx.Variable):
    """Weights of the samples of the batch at hand in such a norm, `[b]`; a single number where all count alike."""


class BatchNormFunctions(NamedTuple):
    """The functions of a model with a norm over the batch, over a tree of parameters.

    Attributes:
        measure: `measure(tree, x)` gives the statistics.
        predict: `predict(tree, x, statistics)` gives the outputs by them.
    """

    measure: Callable[[Any, Array], Any]
    predict: Callable[[Any, Array, Any], Array]


def from_module(
    create: Callable[[nnx.Rngs], nnx.Module],
    classes: int | None,
    penalty: Callable[[nnx.State], Array] | None = None,
    name: str = "a model",
    batch: bool = True,
    least_batch: int = 1,
) -> Model:
    """The model of a flax NNX module.

    The module is split once, here; outside there is one flat vector, in the order of the module's sorted paths, so that
    renaming a layer changes the numbers of a run. Beside parameters a module may hold dropout (`nnx.Dropout`), whose
    random state is made from the key of each call, and the norm over the batch of `models/_layers.py`.

    Args:
        create: `create(rngs)` makes the module, which maps samples `[b, ...]` to logits `[b, classes]`, or to `[b, 1]`
            or `[b]` where `classes` is None.
        classes: The number of labels: the loss is the mean softmax cross-entropy; None for the mean squared error.
        penalty: Added to the loss, of the parameters.
        name: Of the model, for messages.
        batch: As in `Model`.
        least_batch: As in `Model`.

    Returns:
        The model.

    Raises:
        PartError: Where the module holds anything else, such as running statistics, which would not travel in the flat
            vector; where it has no parameters; when used, for outputs of another shape.
    """
    module = nnx.eval_shape(lambda: create(nnx.Rngs(0)))
    _, shapes, random_state, statistics, share, rest = nnx.split(module, nnx.Param, nnx.RngState, Statistic, Share, ...)
    if jax.tree.leaves(rest):
        kept = ", ".join(".".join(map(str, path)) for path, _ in nnx.to_flat_state(rest))
        raise PartError(
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

    def merge(graph: Any, params: nnx.State, key: Array | None, statistics: Any, shares: Any) -> Any:
        return nnx.merge(graph, params, _make_random_state(random_state, key), statistics, shares, rest)

    def ones_like(tree: Any) -> Any:
        # made anew in each call: what a norm measures is written there, for what is traced at the time
        return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), tree)

    def outputs(params: nnx.State, x: Array, key: Array | None, shares: Array | None) -> Array:
        weights = ones_like(share) if shares is None else jax.tree.map(lambda leaf: shares, share)
        return merge(measuring if key is None else training, params, key, ones_like(statistics), weights)(x)

    def measure(params: nnx.State, x: Array) -> Any:
        made = merge(measuring, params, None, ones_like(statistics), ones_like(share))
        made(x)
        return nnx.state(made, Statistic)

    def predict(params: nnx.State, x: Array, measured: Any) -> Array:
        return merge(predicting, params, None, measured, ones_like(share))(x)

    def start(key: Array) -> nnx.State:
        return nnx.state(create(nnx.Rngs(key)), nnx.Param)

    norms = BatchNormFunctions(measure, predict) if jax.tree.leaves(statistics) else None
    return from_tree(start, shapes, outputs, classes, penalty, name, norms, batch, least_batch)


def from_tree(
    start: Callable[[Array], Any],
    shapes: Any,
    outputs: Callable[[Any, Array, Array | None, Array | None], Array],
    classes: int | None,
    penalty: Callable[[Any], Array] | None = None,
    name: str = "a model",
    norms: BatchNormFunctions | None = None,
    batch: bool = True,
    least_batch: int = 1,
) -> Model:
    """The model of functions over a tree of parameters: here, and nowhere else, a tree becomes one vector.

    Args:
        start: `start(key)` gives the tree that training starts from.
        shapes: A tree of leaves with the shapes and types of the parameters.
        outputs: `outputs(tree, x, key, shares)` gives the logits, or the values as `[b]` or `[b, 1]`. With a key it
            drops units, and a norm over the batch counts each sample by its share.
        classes: The number of labels; None for a regression.
        penalty: Added to the loss, of the tree.
        name: Of the model, for messages.
        norms: The functions of a norm over the batch, where there is one.
        batch: As in `Model`.
        least_batch: As in `Model`.

    Returns:
        The model.

    Raises:
        PartError: Where the tree has no leaf; when used, for outputs of another shape.
    """
    if not jax.tree.leaves(shapes):
        raise PartError(f"{name} needs parameters that can be trained, and has none")
    _, unravel_whole = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes))
    judge = judge_values if classes is None else judge_labels
    leaves, structure = jax.tree.flatten(shapes)
    arrays = tuple(leaf.shape for leaf in leaves)

    def unravel(params: Array) -> Any:
        split = arrays_of(params, arrays)
        if split is None:
            return unravel_whole(params)
        made = [each.astype(leaf.dtype) for each, leaf in zip(split, leaves, strict=True)]
        return jax.tree.unflatten(structure, made)

    def check_outputs(out: Any, x: Array) -> Array:
        shape = getattr(out, "shape", None)
        if shape not in ([(len(x),), (len(x), 1)] if classes is None else [(len(x), classes)]):
            wanted = f"values [{len(x)}] or [{len(x)}, 1]" if classes is None else f"logits [{len(x)}, {classes}]"
            got = type(out).__name__ if shape is None else list(shape)
            raise PartError(f"{name} must give {wanted} for samples {list(x.shape)}, got {got}")
        return out[:, 0] if classes is None and out.ndim == 2 else out

    def init(key: Array) -> Array:
        return ravel_pytree(start(key))[0]

    def loss(params: Array, x: Array, y: Array, key: Array | None = None, shares: Array | None = None) -> Array:
        tree = unravel(params)
        losses = judge(check_outputs(outputs(tree, x, key, shares), x), y)[0]
        mean = losses.mean() if shares is None else (shares * losses).sum()
        return mean if penalty is None else mean + penalty(tree)

    def predict(params: Array, x: Array) -> Array:
        return check_outputs(outputs(unravel(params), x, None, None), x)

    if norms is None:
        return Model(init, loss, predict, judge, batch=batch, least_batch=least_batch, shapes=arrays)

    def predict_by(params: Array, x: Array, statistics: Any) -> Array:
        return check_outputs(norms.predict(unravel(params), x, statistics), x)

    def measure(params: Array, x: Array) -> Any:
        return norms.measure(unravel(params), x)

    return Model(init, loss, predict_by, judge, measure, batch, least_batch, arrays)


def _make_random_state(random_state: nnx.State, key: Array | None) -> nnx.State:
    """The random state of a module's layers, made anew from a key; they use none where there is no key."""
    leaves, tree = jax.tree.flatten(random_state)
    own = jax.random.key(0) if key is None else key
    # keys of streams, and counts of what was drawn from them
    made = [
        jax.random.fold_in(own, i) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jnp.zeros((), leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, made)


def judge_labels(logits: Array, y: Array) -> tuple[Array, Array]:
    """`Model.judge` of a classifier.

    Args:
        logits: `[b, classes]`.
        y: `[b]`, the labels.

    Returns:
        The cross-entropies `[b]`, and whether the label has the largest logit `[b]`: of equal logits the first one
        counts; where a logit is NaN none is the largest, and no label is right.
    """
    right = (jnp.argmax(logits, axis=-1) == y) & ~jnp.isnan(logits).any(axis=-1)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y), right


def judge_values(values: Array, y: Array) -> tuple[Array, Array]:
    """`Model.judge` of a regression.

    Args:
        values: `[b]`.
        y: `[b]`, what they should be.

    Returns:
        The squared errors `[b]`, and NaN `[b]`, for nothing is right or wrong.
    """
    return jnp.square(values - y), jnp.full(y.shape, jnp.nan)


def check(shape: tuple[int, ...], classes: int | None) -> None:
    """Checks what a model is made for.

    Args:
        shape: Of one sample.
        classes: The number of labels; None for a regression.

    Raises:
        PartError: For a shape without positive sizes, or fewer than two labels.
    """
    if not shape or min(shape) < 1:
        raise PartError(f"one sample needs a shape of positive sizes such as (28, 28), got {tuple(shape)}")
    if classes is not None and classes < 2:
        raise PartError(f"a classifier needs classes >= 2, got {classes}")
