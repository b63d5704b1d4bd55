"""LeNet-5."""

from typing import Literal

from flax import nnx

from byzax.models._convolution import pool
from byzax.models._layers import (
    ACTIVATIONS,
    INITIALISERS,
    Activation,
    Array,
    Initialiser,
    convolved,
    images,
    known,
    outputs_of,
)
from byzax.models.base import Model, check, from_module


class Network(nnx.Module):
    def __init__(
        self, channels: int, pad: int, outputs: int, activation: str, pooling: str, initialiser: str, rngs: nnx.Rngs
    ):
        start = INITIALISERS[initialiser]
        self.first = convolved(channels, 6, 5, pad=pad, initialiser=initialiser, rngs=rngs)
        self.second = convolved(6, 16, 5, initialiser=initialiser, rngs=rngs)
        self.third = nnx.Linear(5 * 5 * 16, 120, kernel_init=start, rngs=rngs)
        self.fourth = nnx.Linear(120, 84, kernel_init=start, rngs=rngs)
        self.output = nnx.Linear(84, outputs, kernel_init=start, rngs=rngs)
        self.activation = ACTIVATIONS[activation]
        self.pooled = pool if pooling == "max" else _mean

    def __call__(self, x: Array) -> Array:
        x = x if x.ndim == 4 else x[..., None]
        x = self.pooled(self.activation(self.first(x)))
        x = self.pooled(self.activation(self.second(x)))
        x = self.activation(self.third(x.reshape(len(x), -1)))
        return self.output(self.activation(self.fourth(x)))


def _mean(x: Array) -> Array:
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def lenet(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    activation: Activation = "tanh",
    pooling: Literal["mean", "max"] = "mean",
    initialiser: Initialiser = "glorot_uniform",
) -> Model:
    """LeNet-5: two 5x5 convolutions of 6 and 16 channels, each with 2x2 pooling, then 120, 84 and the output.

    As it is used today: the second convolution sees all channels, pooling has no parameters and the output is a linear
    layer, where the paper has a table of connections, trained coefficients and distances. Images of 28x28 pixels get
    two rows of zeros on each side. Biases start from 0.

    Parameters: 61,706 for one channel and 10 classes; 150 for a channel, 85 for a class
    Source: LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 1998, section II.B

    Args:
        activation: what follows each layer but the last.
        pooling: mean or maximum of each 2x2 square.
        initialiser: of all weights, as jax.nn.initializers calls it.

    Raises:
        ValueError: unless samples are images of 28x28 or 32x32 pixels, and for an unknown name.
    """
    check(shape, classes)
    height, width, channels = images("lenet", shape)
    if (height, width) not in ((28, 28), (32, 32)):
        raise ValueError(
            f"lenet needs images of 28x28 or 32x32 pixels, got samples of shape {tuple(shape)}: take resnet20, which "
            "takes images of any size, or mlp"
        )
    known("lenet", "activation", activation, ACTIVATIONS)
    known("lenet", "pooling", pooling, {"mean": _mean, "max": pool})
    known("lenet", "initialiser", initialiser, INITIALISERS)
    pad = (32 - height) // 2
    return from_module(
        lambda rngs: Network(channels, pad, outputs_of(classes), activation, pooling, initialiser, rngs), classes
    )
