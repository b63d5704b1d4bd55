"""Building blocks that models share, each by one name: activations, initialisers, norms, and how a sample is read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from byzax.models._convolution import convolution
from byzax.models.base import Share, Statistic
from byzax.options import OptionError, PartError

Array = jax.Array

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "elu", "leaky_relu"]
ACTIVATIONS: Mapping[Activation, Callable[[Array], Array]] = {
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
INITIALISERS: Mapping[Initialiser, Any] = {
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
    """Batch norm: every feature brought to mean 0 and variance 1, then scaled and moved.

    In training by mean and variance of the batch at hand, and for predictions by those of a fixed set of training
    samples, so that what is predicted for a sample does not depend on the samples beside it. There are no running
    means: statistics never travel and are never aggregated, and a Byzantine worker cannot forge them.

    Args:
        features: Of the last axis.

    References:
        Ioffe and Szegedy, ICML 2015, algorithms 1 and 2 (with statistics of one set in place of many batches)
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
                raise PartError(
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
    """The same."""
    return x


def build_norm(kind: Norm, features: int, groups: int, rngs: nnx.Rngs) -> Callable[[Array], Array]:
    """A norm over the last axis, with a scale and a bias for each of its features.

    Args:
        kind: Its name.
        features: Of the last axis.
        groups: Of the features, for the norm group.
        rngs: For its parameters.

    Returns:
        The norm; the identity for "none".
    """
    if kind == "batch":
        return BatchNorm(features)
    if kind == "layer":
        return nnx.LayerNorm(features, epsilon=EPSILON, rngs=rngs)
    if kind == "group":
        return nnx.GroupNorm(features, num_groups=groups, epsilon=EPSILON, rngs=rngs)
    return identity


def build_convolution(
    inputs: int, outputs: int, size: int, *,
    stride: int = 1, pad: int = 0, bias: bool = True, initialiser: Initialiser = "lecun_normal", rngs: nnx.Rngs,
) -> nnx.Conv:  # fmt: skip
    """A convolution whose gradients are fast on a CPU, `[b, h, w, inputs] -> [b, h', w', outputs]`.

    Args:
        inputs: Channels of the image.
        outputs: Channels of the result.
        size: Of the square kernel, in pixels.
        stride: Pixels between the places of the kernel.
        pad: Rows of zeros on each side of the image.
        bias: Whether a number is added to each channel.
        initialiser: Of the kernel.
        rngs: For the parameters.

    Returns:
        The layer.
    """
    return nnx.Conv(
        inputs, outputs, (size, size), strides=stride, padding=((pad, pad), (pad, pad)), use_bias=bias,
        kernel_init=INITIALISERS[initialiser], conv_general_dilated=_fast_convolution, rngs=rngs,
    )  # fmt: skip


def _fast_convolution(x: Array, kernel: Array, strides: Sequence[int], padding: Any, **_: Any) -> Array:
    # what else nnx.Conv hands over is always the same here
    return convolution(jnp.pad(x, ((0, 0), *padding, (0, 0))), kernel, strides[0])


def build_dropout(rate: float, rngs: nnx.Rngs) -> Callable[[Array], Array]:
    """Sets each number to 0 with probability `rate` while training and divides the others by 1 - rate."""
    return nnx.Dropout(rate, rngs=rngs) if rate else identity


def image_sizes(name: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of images.

    Args:
        name: Of the model, for the message.
        shape: Of one sample, `(h, w)` or `(h, w, channels)`.

    Returns:
        The three sizes; 1 channel where none is said.

    Raises:
        PartError: For another shape.
    """
    if len(shape) not in (2, 3):
        raise PartError(
            f"{name} needs images of shape (height, width) or (height, width, channels), got samples of shape "
            f"{tuple(shape)}: take the model mlp, softmax or linear"
        )
    return (*shape, 1) if len(shape) == 2 else shape  # pyright: ignore[reportReturnType]


def num_outputs(classes: int | None) -> int:
    """The size of the output layer: one value where there are no classes."""
    return 1 if classes is None else classes


def check_groups(norm: Norm, groups: int, features: Sequence[int]) -> None:
    """Raises OptionError unless the groups of the norm group divide the features of each layer."""
    if norm == "group" and any(size % groups for size in features):
        raise OptionError(
            "groups", f"must divide the features {', '.join(map(str, features))} for the norm group, got {groups}"
        )
