"""Modules as a user writes them, for the tests of the model `module`."""

import jax.numpy as jnp
from flax import linen, nnx


class Small(nnx.Module):
    def __init__(self, shape, classes, *, rngs):
        self.hidden = nnx.Linear(shape[0] * shape[1], 16, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.output = nnx.Linear(16, classes, rngs=rngs)

    def __call__(self, x):
        return self.output(self.drop(jnp.tanh(self.hidden(x.reshape(len(x), -1)))))


class Linen(linen.Module):
    classes: int

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = jnp.tanh(linen.Dense(16)(x.reshape(len(x), -1)))
        return linen.Dense(self.classes)(linen.Dropout(0.5, deterministic=not train)(x))


class Deterministic(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic: bool):
        return linen.Dense(1)(linen.Dropout(0.5)(x.reshape(len(x), -1), deterministic=deterministic))


class Letters(linen.Module):
    classes: int

    @linen.compact
    def __call__(self, x):
        return linen.Dense(self.classes)(linen.Embed(self.classes, 3)(x).mean(axis=1))


class Convolving(nnx.Module):
    def __init__(self, classes, rngs):
        self.layers = nnx.List([nnx.Conv(1, 2, (3, 3), rngs=rngs)])
        self.output = nnx.Linear(2, classes, rngs=rngs)

    def __call__(self, x):
        return self.output(self.layers[0](x[..., None]).mean(axis=(1, 2)))


class Widening(nnx.Module):
    def __init__(self, classes, rngs):
        self.layer = nnx.ConvTranspose(1, classes, (2, 2), rngs=rngs)

    def __call__(self, x):
        return self.layer(x[..., None]).mean(axis=(1, 2))


class LinenConvolving(linen.Module):
    classes: int

    @linen.compact
    def __call__(self, x):
        return linen.Dense(self.classes)(linen.Conv(2, (3, 3))(x[..., None]).mean(axis=(1, 2)))


class Value(nnx.Module):
    """A regression that gives `[b]`."""

    def __init__(self, rngs):
        self.weight = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return self.weight[...] * x.reshape(len(x), -1).sum(axis=1)


class Statistics(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(8, rngs=rngs)

    def __call__(self, x):
        return self.norm(x)


class LinenStatistics(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.BatchNorm(use_running_average=False)(x)


class Wide(nnx.Module):
    def __init__(self, width, rngs):
        self.width = width

    def __call__(self, x):
        return x


class Nothing(nnx.Module):
    def __init__(self, rngs):
        pass

    def __call__(self, x):
        return jnp.zeros((len(x), 3))


class LinenNothing(linen.Module):
    @linen.compact
    def __call__(self, x):
        return jnp.zeros((len(x), 3))


class NotCalled(nnx.Module):
    def __init__(self, rngs):
        self.weight = nnx.Param(jnp.ones(()))


class LinenNotCalled(linen.Module):
    classes: int


class AsksMore(nnx.Module):
    def __init__(self, rngs):
        self.weight = nnx.Param(jnp.ones(()))

    def __call__(self, x, train):
        return self.weight[...] * x


class Outputs(nnx.Module):
    """Five of them, whatever is asked."""

    def __init__(self, rngs):
        self.weight = nnx.Param(jnp.ones(5))

    def __call__(self, x):
        return self.weight[...] * x.reshape(len(x), -1)[:, :1]


class Pair(Outputs):
    def __call__(self, x):
        return super().__call__(x), 0


def function(shape, classes):
    return None
