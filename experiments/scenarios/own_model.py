"""A model of one's own: any flax module that makes logits of samples."""

import jax
import jax.numpy as jnp
from flax import nnx


class Gated(nnx.Module):
    """A hidden layer whose outputs are multiplied by gates (Dauphin et al. 2017)."""

    def __init__(self, shape: tuple[int, ...], classes: int, rngs: nnx.Rngs) -> None:
        # of shape, classes and rngs those that it asks for, by name
        self.value = nnx.Linear(shape[0] * shape[1], 32, rngs=rngs)
        self.gate = nnx.Linear(shape[0] * shape[1], 32, rngs=rngs)
        self.output = nnx.Linear(32, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        # samples [b, *shape] to logits [b, classes], or values [b] where classes is None
        flat = jnp.reshape(x, (len(x), -1))
        return self.output(self.value(flat) * nnx.sigmoid(self.gate(flat)))
