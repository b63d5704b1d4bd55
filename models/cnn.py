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

    Its gradients are those of lax's convolution, written as plain convolutions of transposed arrays. XLA on CPU
    rewrites the gradients that JAX derives into this form only outside of loops: inside `lax.map` and `lax.scan`,
    where the workers of one round are, they run about six times longer.
    """
    return _slide(x, kernel, 0)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _slide(x, kernel, 0), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    to_x = _slide(gradient, turned, kernel.shape[0] - 1)
    # samples and channels change places: the sum over the samples becomes the sum over "channels"
    to_kernel = _slide(x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), 0).transpose(1, 2, 0, 3)
    return to_x, to_kernel


convolution.defvjp(_forward, _backward)


def _slide(x: Array, kernel: Array, padding: int) -> Array:
    edges = ((padding, padding), (padding, padding))
    return lax.conv_general_dilated(x, kernel, (1, 1), edges, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pool(x: Array) -> Array:
    """The largest value of each 2x2 square, `[b, h, w, c] -> [b, h/2, w/2, c]`; equal values share the gradient."""
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])
