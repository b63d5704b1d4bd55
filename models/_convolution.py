"""Convolution and pooling whose gradients XLA on CPU runs fast inside of loops too, where a round's workers are."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

# A convolution of at most so many input and output channels is a product of patches. That of one channel to six took
# 0.72 ms as a convolution and 0.16 as a product (25 images of 32x32 pixels on one core), its kernel's gradient 0.39 and
# 0.16; from 16 channels to 16 the convolution is the faster one.
FEW_INPUTS, FEW_OUTPUTS = 4, 32
# Pixels beside each other that one patch gives the results of: the product then has that many times the columns.
SIDE_BY_SIDE = 4


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(x: Array, kernel: Array, stride: int = 1) -> Array:
    """A convolution without padding.

    Its gradients are those of lax's convolution, in forms that XLA on CPU runs fast everywhere. What JAX derives is
    rewritten by XLA only outside of loops: inside `lax.map` and `lax.scan`, where the workers of one round are, whole
    networks ran three to ten times longer.

    Args:
        x: `[b, h, w, c]`.
        kernel: `[p, q, c, k]`.
        stride: Pixels between the places of the kernel.

    Returns:
        The kernel's products with each part of the image that it fits on, `[b, (h-p)//stride+1, (w-q)//stride+1, k]`.
    """
    return _multiply(x, kernel) if _has_few_channels(kernel, stride) else _convolve(x, kernel, stride)


def _has_few_channels(kernel: Array, stride: int) -> bool:
    return stride == 1 and kernel.shape[2] <= FEW_INPUTS and kernel.shape[3] <= FEW_OUTPUTS


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return convolution(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    corners = [(row, column) for row in range(kernel.shape[0]) for column in range(kernel.shape[1])]
    # from the first to the last place that a corner of the kernel comes to
    height, width = (stride * (size - 1) + 1 for size in gradient.shape[1:3])

    # one product, then each output's patch is added where it was read: less than half the work of a padded convolution
    spread = jnp.split(gradient @ kernel.reshape(-1, kernel.shape[-1]).T, len(corners), axis=-1)
    to_x = sum(
        lax.pad(
            part,
            jnp.zeros((), part.dtype),
            (
                (0, 0, 0),
                (row, x.shape[1] - height - row, stride - 1),
                (column, x.shape[2] - width - column, stride - 1),
                (0, 0, 0),
            ),
        )
        for part, (row, column) in zip(spread, corners, strict=True)
    )

    if _has_few_channels(kernel, stride):
        (to_kernel,) = jax.linear_transpose(partial(_multiply, x), kernel)(gradient)
    elif stride == 1 and (x.shape[-1] == 1 or len(corners) <= 9):
        # samples and channels change places: with one channel, and for small kernels, this is the fastest
        to_kernel = _convolve(x.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), 1).transpose(1, 2, 0, 3)
    else:
        read = [x[:, row : row + height : stride, column : column + width : stride] for row, column in corners]
        patches = jnp.concatenate(read, -1)
        to_kernel = (patches.reshape(-1, patches.shape[-1]).T @ gradient.reshape(-1, gradient.shape[-1])).reshape(
            kernel.shape
        )
    return to_x, to_kernel  # pyright: ignore[reportReturnType]


convolution.defvjp(_forward, _backward)


def _convolve(x: Array, kernel: Array, stride: int) -> Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _multiply(x: Array, kernel: Array) -> Array:
    """The convolution as a product of patches, each with the results of several pixels of a row."""
    p, q, _, outputs = kernel.shape
    height, width, side = x.shape[1] - p + 1, x.shape[2] - q + 1, SIDE_BY_SIDE
    count = -(-width // side)
    x = jnp.pad(x, ((0, 0), (0, 0), (0, count * side - width), (0, 0)))
    columns = [x[:, :, i * side : (i + 1) * side + q - 1] for i in range(count)]
    # [b, h, count, (side+q-1) * c], and of p rows below each other
    parts = jnp.stack(columns, 2).reshape(*x.shape[:2], count, -1)
    patches = jnp.concatenate([parts[:, row : row + height] for row in range(p)], -1)
    # the kernel at each of the places that it has in a patch, zeros elsewhere
    moved = [jnp.pad(kernel, ((0, 0), (i, side - 1 - i), (0, 0), (0, 0))) for i in range(side)]
    product = patches @ jnp.stack(moved, 3).reshape(-1, side * outputs)
    return product.reshape(len(x), height, -1, outputs)[:, :, :width]


@jax.custom_vjp
def pool(x: Array) -> Array:
    """The largest value of each 2x2 square, `[b, h, w, c] -> [b, h/2, w/2, c]`; equal values share the gradient."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _halve(x: Array) -> Array:
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


# the window is faster when only predicting, the maxima when there is a gradient; both give the same values
pool.defvjp(lambda x: jax.vjp(_halve, x), lambda pull, gradient: pull(gradient))
