"""Networks that read a sequence step by step: what rnn, lstm and gru have in common."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from byzax.models._layers import INITIALISERS, Array, dropout, dropped, known, outputs_of
from byzax.models._sequence import Characters, vocabulary_of
from byzax.models.base import Model, check, from_module

State = tuple[Array, ...]


class Cell(NamedTuple):
    """One step of a layer of h units.

    `step(state, given, recurrent)` gives the new state, `parts` arrays `[b, h]` of which the first is the output.
    `given` `[b, gates * h]` is what the input adds, biases included; `recurrent` `[h, gates * h]` are the weights of
    the state. `bias(h)` `[gates * h]`: the biases at the start.
    """

    gates: int
    parts: int
    step: Callable[[State, Array, Array], State]
    bias: Callable[[int], Array]


class Layer(nnx.Module):
    def __init__(self, inputs: int, size: int, cell: Cell, initialiser: str, rngs: nnx.Rngs):
        self.kernel = nnx.Param(INITIALISERS[initialiser](rngs.params(), (inputs, cell.gates * size), jnp.float32))
        # each gate's own matrix is orthogonal
        gates = [initializers.orthogonal()(rngs.params(), (size, size), jnp.float32) for _ in range(cell.gates)]
        self.recurrent = nnx.Param(jnp.concatenate(gates, axis=1))
        self.bias = nnx.Param(cell.bias(size))
        self.size = size
        self.cell = cell

    def __call__(self, x: Array, truncate: int | None) -> Array:
        """The outputs of all steps, `[b, t, inputs] -> [b, t, size]`; gradients reach the last `truncate` steps."""
        recurrent = self.recurrent[...]

        def one(state: State, given: Array) -> tuple[State, Array]:
            state = self.cell.step(state, given, recurrent)
            return state, state[0]

        # what the inputs add needs no loop
        given = (x @ self.kernel[...] + self.bias[...]).swapaxes(0, 1)
        state = (jnp.zeros((len(x), self.size), given.dtype),) * self.cell.parts
        past = 0 if truncate is None else max(0, len(given) - truncate)
        state, before = jax.lax.stop_gradient(jax.lax.scan(one, state, given[:past]))
        _, after = jax.lax.scan(one, state, given[past:])
        return jnp.concatenate([before, after]).swapaxes(0, 1)


class Network(nnx.Module):
    def __init__(
        self, features: int, vocabulary: int | None, sizes: tuple[int, ...], cell: Cell, truncate: int | None,
        rate: float, outputs: int, initialiser: str, rngs: nnx.Rngs,
    ):  # fmt: skip
        self.characters = None if vocabulary is None else Characters(vocabulary, features, rngs)
        inputs = (features, *sizes[:-1])
        self.layers = nnx.List([Layer(a, b, cell, initialiser, rngs) for a, b in zip(inputs, sizes, strict=True)])
        self.output = nnx.Linear(sizes[-1], outputs, kernel_init=INITIALISERS[initialiser], rngs=rngs)
        self.drop = dropout(rate, rngs)
        self.truncate = truncate

    def __call__(self, x: Array) -> Array:
        if self.characters is not None:
            x = self.characters(x)
        for layer in self.layers:
            x = self.drop(layer(x, self.truncate))
        return self.output(x[:, -1])


def recurrent(
    name: str, cell: Cell, shape: tuple[int, ...], classes: int | None, *, hidden: int, layers: int, embedding: int,
    vocabulary: int | None, truncate: int | None, dropout: float, initialiser: str,
) -> Model:  # fmt: skip
    """Layers of cells one upon the other, and a linear layer at the last step. Raises ValueError for an option."""
    check(shape, classes)
    characters = vocabulary_of(name, shape, classes, vocabulary)
    if min(hidden, layers, embedding) < 1 or (truncate is not None and truncate < 1):
        raise ValueError(
            f"{name} needs hidden, layers, embedding and truncate (or null) >= 1, got hidden={hidden}, "
            f"layers={layers}, embedding={embedding}, truncate={truncate}"
        )
    dropped(name, dropout)
    known(name, "initialiser", initialiser, INITIALISERS)
    features = shape[1] if characters is None else embedding

    def create(rngs: nnx.Rngs) -> nnx.Module:
        sizes = (hidden,) * layers
        return Network(features, characters, sizes, cell, truncate, dropout, outputs_of(classes), initialiser, rngs)

    return from_module(create, classes)
