"""Small convolutional network for images of 28x28 pixels."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from models.base import Array, Model, check, from_module


class Network(nnx.Module):
    def __init__(self, classes: int, rngs: nnx.Rngs):
        self.first = nnx.Conv(1, 20, (5, 5), padding="VALID", conv_general_dilated=_convolution, rngs=rngs)
        self.second = nnx.Conv(20, 50, (5, 5), padding="VALID", conv_general_dilated=_convolution, rngs=rngs)
        self.hidden = nnx.Linear(4 * 4 * 50, 500, rngs=rngs)
        self.output = nnx.Linear(500, classes, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = pool(nnx.relu(self.first(x.reshape(-1, 28, 28, 1))))
        x = pool(nnx.relu(self.second(x)))
        return self.output(nnx.relu(self.hidden(x.reshape(len(x), -1))))


def cnn(shape: tuple[int, ...], classes: int) -> Model:
    """Two 5x5 convolutions of 20 and 50 channels, each with ReLU and 2x2 max pooling, then 500 hidden units.

    All weights start from N(0, 1/inputs of the unit), cut off at two standard deviations (LeCun), the biases from 0.

    Parameters: 426,070 + 501 * classes; 431,080 for 10 classes
    Source: the `cnn_mnist` of byzfl and of the papers measured with it; after LeNet (LeCun et al. 1998)

    Raises:
        ValueError: unless samples are images of 28x28 pixels, `(28, 28)` or `(28, 28, 1)`, with two classes or more.
    """
    check(shape, classes)
    if tuple(shape) not in ((28, 28), (28, 28, 1)):
        raise ValueError(
            f"cnn needs images of 28x28 pixels, such as those of mnist or fashion_mnist, got samples of shape "
            f"{tuple(shape)}: take the model mlp or softmax"
        )
    return from_module(lambda rngs: Network(classes, rngs))


def _convolution(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    # nnx.Conv also hands over strides, padding and the like, which are always the same here
    return convolution(x, kernel)


@jax.custom_vjp
def convolution(x: Array, kernel: Array) -> Array:
    """Every full overlap of `kernel` `[5, 5, c, k]` with `x` `[b, h, w, c]`: `[b, h-4, w-4, k]`.

    Its gradients are those of lax's convolution, in forms that XLA on CPU runs fast everywhere. What JAX derives is
    rewritten by XLA only outside of loops: inside `lax.map` and `lax.scan`, where the workers of one round are, the
    whole network ran ten times longer.
    """
    return _slide(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _slide(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    height, width = gradient.shape[1:3]
    corners = [(row, column) for row in range(kernel.shape[0]) for column in range(kernel.shape[1])]

    # one product, then each output's patch is added where it was read: less than half the work of a padded convolution
    spread = jnp.split(gradient @ kernel.reshape(-1, kernel.shape[-1]).T, len(corners), axis=-1)
    to_x = sum(
        jnp.pad(part, ((0, 0), (row, x.shape[1] - height - row), (column, x.shape[2] - width - column), (0, 0)))
        for part, (row, column) in zip(spread, corners, strict=True)
    )

    if x.shape[-1] == 1:
        # samples and channels change places: with one channel this is fastest outside of loops, and as fast inside
        to_kernel = _slide(x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)).transpose(1, 2, 0, 3)
    else:
        patches = jnp.concatenate([x[:, row : row + height, column : column + width] for row, column in corners], -1)
        to_kernel = (patches.reshape(-1, patches.shape[-1]).T @ gradient.reshape(-1, gradient.shape[-1])).reshape(
            kernel.shape
        )
    return to_x, to_kernel  # pyright: ignore[reportReturnType]


convolution.defvjp(_forward, _backward)


def _slide(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def pool(x: Array) -> Array:
    """The largest value of each 2x2 square, `[b, h, w, c] -> [b, h/2, w/2, c]`; equal values share the gradient."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _halve(x: Array) -> Array:
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


# the window is faster when only predicting, the maxima when there is a gradient; both give the same values
pool.defvjp(lambda x: jax.vjp(_halve, x), lambda pull, gradient: pull(gradient))
