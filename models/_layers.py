"""Building blocks that models share, each by one name: activations, initialisers, norms, and how a sample is read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from byzax.models._convolution import convolution
from byzax.models.base import Share, Statistic

Array = jax.Array

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "elu", "leaky_relu"]
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": nnx.relu,
    "tanh": jnp.tanh,
    "sigmoid": nnx.sigmoid,
    "gelu": nnx.gelu,
    "elu": nnx.elu,
    "leaky_relu": nnx.leaky_relu,
}

Initialiser = Literal[
    "lecun_normal", "lecun_uniform", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "orthogonal",
    "normal", "zeros",
]  # fmt: skip
# as jax.nn.initializers calls them; normal has the standard deviation 0.01
INITIALISERS: Mapping[str, Any] = {
    "lecun_normal": initializers.lecun_normal(),
    "lecun_uniform": initializers.lecun_uniform(),
    "glorot_normal": initializers.glorot_normal(),
    "glorot_uniform": initializers.glorot_uniform(),
    "he_normal": initializers.he_normal(),
    "he_uniform": initializers.he_uniform(),
    "orthogonal": initializers.orthogonal(),
    "normal": initializers.normal(),
    "zeros": initializers.zeros,
}

Norm = Literal["none", "batch", "layer", "group"]
EPSILON = 1e-5


class BatchNorm(nnx.Module):
    """Every feature brought to mean 0 and variance 1, then scaled and moved.

    In training by mean and variance of the batch at hand, and for predictions by those of a fixed set of training
    samples, so that what is predicted for a sample does not depend on the samples beside it. There are no running
    means: statistics never travel and are never aggregated, and a Byzantine worker cannot forge them.

    Source: Ioffe and Szegedy, ICML 2015, algorithms 1 and 2 (with statistics of one set in place of many batches)
    """

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = Statistic(jnp.zeros(features))
        self.variance = Statistic(jnp.ones(features))
        self.share = Share(jnp.ones(()))
        # the name by which flax tells its own norm whether it is to predict
        self.use_running_average = False

    def __call__(self, x: Array) -> Array:
        if self.use_running_average:
            centred, variance = x - self.mean[...], self.variance[...]
        else:
            if x.size == x.shape[-1]:
                raise ValueError(
                    "batch norm of a single sample gives its bias, whatever the sample: take batches of 2 or more, "
                    "or another norm"
                )
            self.mean[...] = mean = self._average(x)
            centred = x - mean
            self.variance[...] = variance = self._average(jnp.square(centred))
        return centred * jax.lax.rsqrt(variance + EPSILON) * self.scale[...] + self.bias[...]

    def _average(self, x: Array) -> Array:
        share = self.share[...]
        axes = tuple(range(x.ndim - 1))
        if not share.ndim:
            return x.mean(axes)
        weights = (share / share.sum()).reshape(-1, *(1,) * (x.ndim - 1))
        return (weights * x).sum(0).mean(tuple(range(x.ndim - 2)))


def identity(x: Array) -> Array:
    return x


def norm(kind: Norm, features: int, groups: int, rngs: nnx.Rngs) -> Callable[[Array], Array]:
    """The norm of this name over the last axis, with a scale and a bias for each of its features."""
    if kind == "batch":
        return BatchNorm(features)
    if kind == "layer":
        return nnx.LayerNorm(features, epsilon=EPSILON, rngs=rngs)
    if kind == "group":
        return nnx.GroupNorm(features, num_groups=groups, epsilon=EPSILON, rngs=rngs)
    return identity


def convolved(
    inputs: int, outputs: int, size: int, *,
    stride: int = 1, pad: int = 0, bias: bool = True, initialiser: str = "lecun_normal", rngs: nnx.Rngs,
) -> nnx.Conv:  # fmt: skip
    """A convolution of `size` x `size` pixels over `[b, h, w, inputs]`, with `pad` rows of zeros around the image."""
    return nnx.Conv(
        inputs, outputs, (size, size), strides=stride, padding=((pad, pad), (pad, pad)), use_bias=bias,
        kernel_init=INITIALISERS[initialiser], conv_general_dilated=_fast, rngs=rngs,
    )  # fmt: skip


def _fast(x: Array, kernel: Array, strides: Sequence[int], padding: Any, **_: Any) -> Array:
    # what else nnx.Conv hands over is always the same here
    return convolution(jnp.pad(x, ((0, 0), *padding, (0, 0))), kernel, strides[0])


def dropout(rate: float, rngs: nnx.Rngs) -> Callable[[Array], Array]:
    """Sets each number to 0 with probability `rate` while training and divides the others by 1 - rate."""
    return nnx.Dropout(rate, rngs=rngs) if rate else identity


def images(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of samples `(h, w)` or `(h, w, channels)`. Raises ValueError for others."""
    if len(shape) not in (2, 3):
        raise ValueError(
            f"{name} needs images of shape (height, width) or (height, width, channels), got samples of shape "
            f"{tuple(shape)}: take the model mlp, softmax or linear"
        )
    return (*shape, 1) if len(shape) == 2 else shape  # pyright: ignore[reportReturnType]


def outputs_of(classes: int | None) -> int:
    """The size of the output layer: one value where there are no classes."""
    return 1 if classes is None else classes


def known(model: str, option: str, value: str, table: Mapping[str, Any]) -> None:
    """Raises ValueError for a name that is not in the table."""
    if value not in table:
        raise ValueError(f"{model} knows the {option}s {', '.join(table)}, got {value!r}")


def dropped(model: str, rate: float) -> None:
    """Raises ValueError for a dropout rate out of range."""
    if not 0 <= rate < 1:
        raise ValueError(f"{model} needs a share for dropout, 0 <= dropout < 1, got {rate}")


def grouped(model: str, kind: Norm, groups: int, features: Sequence[int]) -> None:
    """Raises ValueError for a norm that is not known, and for groups that do not divide the features."""
    known(model, "norm", kind, dict.fromkeys(get_args(Norm)))
    if groups < 1 or (kind == "group" and any(size % groups for size in features)):
        raise ValueError(
            f"{model} with norm group needs groups >= 1 that divide its features {', '.join(map(str, features))}, "
            f"got groups={groups}"
        )
