"""LeNet-5 (LeCun et al. 1998)."""

from typing import Literal

from flax import nnx

from byzax.models._convolution import pool
from byzax.models._layers import (
    ACTIVATIONS,
    INITIALISERS,
    Activation,
    Array,
    Initialiser,
    build_convolution,
    image_sizes,
    num_outputs,
)
from byzax.models.base import Model, check, from_module
from byzax.options import PartError, checked

Pooling = Literal["mean", "max"]


class LeNet(nnx.Module):
    """Two convolutions with pooling, then three linear layers, `[b, h, w, c] -> [b, outputs]`."""

    def __init__(
        self, channels: int, pad: int, outputs: int, activation: Activation, pooling: Pooling,
        initialiser: Initialiser, rngs: nnx.Rngs,
    ):  # fmt: skip
        start = INITIALISERS[initialiser]
        self.first = build_convolution(channels, 6, 5, pad=pad, initialiser=initialiser, rngs=rngs)
        self.second = build_convolution(6, 16, 5, initialiser=initialiser, rngs=rngs)
        self.third = nnx.Linear(5 * 5 * 16, 120, kernel_init=start, rngs=rngs)
        self.fourth = nnx.Linear(120, 84, kernel_init=start, rngs=rngs)
        self.output = nnx.Linear(84, outputs, kernel_init=start, rngs=rngs)
        self.activate = ACTIVATIONS[activation]
        self.pool = pool if pooling == "max" else _mean_pool

    def __call__(self, x: Array) -> Array:
        x = x if x.ndim == 4 else x[..., None]
        x = self.pool(self.activate(self.first(x)))
        x = self.pool(self.activate(self.second(x)))
        x = self.activate(self.third(x.reshape(len(x), -1)))
        return self.output(self.activate(self.fourth(x)))


def _mean_pool(x: Array) -> Array:
    # sums of whole rows, which XLA on CPU adds faster than it takes means over axes between others
    x = x[:, ::2] + x[:, 1::2]
    return 0.25 * (x[:, :, ::2] + x[:, :, 1::2])


@checked
def lenet(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    activation: Activation = "tanh",
    pooling: Pooling = "mean",
    initialiser: Initialiser = "glorot_uniform",
) -> Model:
    """LeNet-5: two 5x5 convolutions of 6 and 16 channels, each with 2x2 pooling, then 120, 84 and the output.

    As it is used today: the second convolution sees all channels, pooling has no parameters and the output is a linear
    layer, where the paper has a table of connections, trained coefficients and distances. Images of 28x28 pixels get
    two rows of zeros on each side. Biases start from 0.

    Size: 61,706 for one channel and 10 classes; 150 for a channel, 85 for a class

    Args:
        shape: Of one sample, `(h, w)` or `(h, w, channels)`, of 28x28 or 32x32 pixels.
        classes: The number of labels; None for a regression.
        activation: After each layer but the last.
        pooling: Mean or maximum of each 2x2 square.
        initialiser: Of all weights, as jax.nn.initializers calls it.

    Returns:
        The model.

    Raises:
        PartError: Unless samples are images of 28x28 or 32x32 pixels.
        OptionError: For an option out of its range.

    References:
        LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 1998, section II.B
    """
    check(shape, classes)
    height, width, channels = image_sizes("lenet", shape)
    if (height, width) not in ((28, 28), (32, 32)):
        raise PartError(
            f"lenet needs images of 28x28 or 32x32 pixels, got samples of shape {tuple(shape)}: take resnet20, which "
            "takes images of any size, or mlp"
        )
    pad = (32 - height) // 2

    def create(rngs: nnx.Rngs) -> nnx.Module:
        return LeNet(channels, pad, num_outputs(classes), activation, pooling, initialiser, rngs)

    return from_module(create, classes, batch=False)
