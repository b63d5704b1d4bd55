"""Residual networks for small images: what resnet18 and resnet20 have in common."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from byzax.models._layers import INITIALISERS, Array, convolved, grouped, images, known, norm, outputs_of
from byzax.models.base import Model, check, from_module

ImageNorm = Literal["group", "batch"]
Layer = Callable[..., Callable[[Array], Array]]


class Block(nnx.Module):
    """Two 3x3 convolutions, each with a norm, added to what came in; ReLU after the first and after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int, project: bool, convolve: Layer, normed: Layer):
        self.first = convolve(inputs, outputs, 3, stride=stride, pad=1)
        self.first_norm = normed(features=outputs)
        self.second = convolve(outputs, outputs, 3, pad=1)
        self.second_norm = normed(features=outputs)
        changes = stride > 1 or inputs != outputs
        self.shortcut = convolve(inputs, outputs, 1, stride=stride) if changes and project else None
        self.shortcut_norm = normed(features=outputs) if changes and project else None
        self.stride = stride
        self.missing = outputs - inputs

    def __call__(self, x: Array) -> Array:
        inner = nnx.relu(self.first_norm(self.first(x)))
        inner = self.second_norm(self.second(inner))
        if self.shortcut is not None and self.shortcut_norm is not None:
            x = self.shortcut_norm(self.shortcut(x))
        else:
            x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0), (0, 0), (0, 0), (0, self.missing)))
        return nnx.relu(inner + x)


class Network(nnx.Module):
    def __init__(
        self, channels: int, sizes: Sequence[int], blocks: int, project: bool, outputs: int, convolve: Layer,
        normed: Layer, rngs: nnx.Rngs,
    ):  # fmt: skip
        self.first = convolve(channels, sizes[0], 3, pad=1)
        self.first_norm = normed(features=sizes[0])
        made, inputs = [], sizes[0]
        for size in sizes:
            for i in range(blocks):
                stride = 2 if i == 0 and size != sizes[0] else 1
                made.append(Block(inputs, size, stride, project, convolve, normed))
                inputs = size
        self.blocks = nnx.List(made)
        self.output = nnx.Linear(inputs, outputs, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = x if x.ndim == 4 else x[..., None]
        x = nnx.relu(self.first_norm(self.first(x)))
        for block in self.blocks:
            x = block(x)
        return self.output(x.mean(axis=(1, 2)))


def residual(
    name: str, shape: tuple[int, ...], classes: int | None, sizes: Sequence[int], blocks: int, project: bool,
    kind: ImageNorm, groups: int, initialiser: str,
) -> Model:  # fmt: skip
    """A 3x3 convolution, so many blocks for each of the sizes, which halve the image, global mean, one linear layer.

    `project`: where a block changes the size its input goes through a 1x1 convolution with a norm; else every second
    pixel of it is taken, and zeros for the channels it lacks. Raises ValueError for an option out of range.
    """
    check(shape, classes)
    _, _, channels = images(name, shape)
    if kind == "none":
        raise ValueError(f"{name} knows the norms group, batch, got 'none'")
    grouped(name, kind, groups, sizes)
    known(name, "initialiser", initialiser, INITIALISERS)

    def create(rngs: nnx.Rngs) -> nnx.Module:
        convolve = partial(convolved, bias=False, initialiser=initialiser, rngs=rngs)
        normed = partial(norm, kind, groups=groups, rngs=rngs)
        return Network(channels, sizes, blocks, project, outputs_of(classes), convolve, normed, rngs)

    return from_module(create, classes)
