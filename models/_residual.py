"""Residual networks for small images: the common part of resnet18 and resnet20."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import jax.numpy as jnp
from flax import nnx

from byzax.models._layers import (
    Array,
    Initialiser,
    build_convolution,
    build_norm,
    check_groups,
    image_sizes,
    num_outputs,
)
from byzax.models.base import Model, check, from_module

ImageNorm = Literal["group", "batch"]
BuildLayer = Callable[..., Callable[[Array], Array]]


class ResidualBlock(nnx.Module):
    """Two 3x3 convolutions, each with a norm, added to what came in; ReLU after the first and after the sum."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, project: bool, make_convolution: BuildLayer,
        make_norm: BuildLayer,
    ):  # fmt: skip
        self.first = make_convolution(inputs, outputs, 3, stride=stride, pad=1)
        self.first_norm = make_norm(features=outputs)
        self.second = make_convolution(outputs, outputs, 3, pad=1)
        self.second_norm = make_norm(features=outputs)
        changes = stride > 1 or inputs != outputs
        self.shortcut = make_convolution(inputs, outputs, 1, stride=stride) if changes and project else None
        self.shortcut_norm = make_norm(features=outputs) if changes and project else None
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


class ResidualNetwork(nnx.Module):
    """A convolution, residual blocks, the mean over the image, and a linear layer."""

    def __init__(
        self, channels: int, sizes: Sequence[int], blocks: int, project: bool, outputs: int,
        make_convolution: BuildLayer, make_norm: BuildLayer, rngs: nnx.Rngs,
    ):  # fmt: skip
        self.first = make_convolution(channels, sizes[0], 3, pad=1)
        self.first_norm = make_norm(features=sizes[0])
        made, inputs = [], sizes[0]
        for size in sizes:
            for i in range(blocks):
                stride = 2 if i == 0 and size != sizes[0] else 1
                made.append(ResidualBlock(inputs, size, stride, project, make_convolution, make_norm))
                inputs = size
        self.blocks = nnx.List(made)
        self.output = nnx.Linear(inputs, outputs, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = x if x.ndim == 4 else x[..., None]
        x = nnx.relu(self.first_norm(self.first(x)))
        for block in self.blocks:
            x = block(x)
        return self.output(x.mean(axis=(1, 2)))


def build_residual(
    name: str, shape: tuple[int, ...], classes: int | None, *, sizes: Sequence[int], blocks: int, project: bool,
    norm: ImageNorm, groups: int, initialiser: Initialiser,
) -> Model:  # fmt: skip
    """The model of a 3x3 convolution, residual blocks that halve the image, the global mean and one linear layer.

    Args:
        name: Of the model, for messages.
        shape: Of one sample.
        classes: The number of labels; None for a regression.
        sizes: Channels of the blocks; each size after the first halves the image.
        blocks: Blocks of each size.
        project: Whether the input of a block that changes the size goes through a 1x1 convolution with a norm; else
            every second pixel of it is taken, and zeros for the channels that it lacks.
        norm: Of the convolutions.
        groups: Of the channels, for the norm group.
        initialiser: Of the convolutions.

    Returns:
        The model.

    Raises:
        PartError: For samples that are no images.
        OptionError: For groups that do not divide the channels.
    """
    check(shape, classes)
    *sides, channels = image_sizes(name, shape)
    check_groups(norm, groups, sizes)

    def create(rngs: nnx.Rngs) -> nnx.Module:
        convolve = partial(build_convolution, bias=False, initialiser=initialiser, rngs=rngs)
        normalise = partial(build_norm, norm, groups=groups, rngs=rngs)
        return ResidualNetwork(channels, sizes, blocks, project, num_outputs(classes), convolve, normalise, rngs)

    # the last norm is over the pixels too, unless the image has been halved to a single one
    single_pixel = max(sides) <= 2 ** (len(sizes) - 1)
    return from_module(create, classes, batch=False, least_batch=2 if norm == "batch" and single_pixel else 1)
