"""Networks that read a sequence step by step: the common part of rnn, lstm and gru."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from byzax.models._layers import INITIALISERS, Array, Initialiser, build_dropout, num_outputs
from byzax.models._sequence import Characters, vocabulary_size
from byzax.models.base import Model, check, from_module

State = tuple[Array, ...]


class Step(Protocol):
    """One step of a layer of h units."""

    def __call__(self, state: State, inputs: Array, recurrent: Array, /) -> tuple[State, tuple[Array, ...]]:
        """The next state.

        Args:
            state: Arrays `[b, h]`, of which the first is the output.
            inputs: `[b, gates * h]`, what the input adds, biases included. The step adds the products with the weights
                to it, and nothing else reads it.
            recurrent: `[h, gates * h]`, the weights of the state.

        Returns:
            The next state, of the same shapes; and the arrays `[b, h]` that were multiplied with the weights, as many
            as divide the gates: each with its part of the columns, in their order.
        """
        ...


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(step: Step, state: State, inputs: Array, recurrent: Array) -> tuple[State, Array]:
    """All steps of a layer, whose gradient of the weights is one product after the loop, and not one in each step.

    A sum over the steps would be read and written in each of them, which took twice the time of the products.

    Args:
        step: One step.
        state: `[b, h]` arrays, the state before the first step.
        inputs: `[t, b, gates * h]`, what the inputs add.
        recurrent: `[h, gates * h]`, the weights of the state.

    Returns:
        The last state, and the outputs `[t, b, h]`.
    """
    return _scan(step, recurrent, state, inputs)[0]


def _scan(step: Step, recurrent: Array, state: State, inputs: Array) -> tuple[tuple[State, Array], tuple[Array, ...]]:
    def one(state: State, inputs: Array) -> tuple[State, tuple[Array, tuple[Array, ...]]]:
        state, factors = step(state, inputs, recurrent)
        return state, (state[0], factors)

    last, (outputs, factors) = jax.lax.scan(one, state, inputs)
    return (last, outputs), factors


def _run_forward(step: Step, state: State, inputs: Array, recurrent: Array) -> Any:
    results, pull, factors = jax.vjp(partial(_scan, step, recurrent), state, inputs, has_aux=True)
    return results, (pull, factors)


def _run_backward(step: Step, saved: Any, gradient: Any) -> tuple[State, Array, Array]:
    pull, factors = saved
    to_state, to_inputs = pull(gradient)
    # the gradient of what the inputs add is that of the products beside it
    parts = jnp.split(to_inputs, len(factors), axis=-1)
    to_recurrent = [
        factor.reshape(-1, factor.shape[-1]).T @ part.reshape(-1, part.shape[-1])
        for factor, part in zip(factors, parts, strict=True)
    ]
    return to_state, to_inputs, jnp.concatenate(to_recurrent, axis=1)


_run.defvjp(_run_forward, _run_backward)


class RecurrentCell(NamedTuple):
    """The kind of a recurrent layer.

    Attributes:
        gates: Linear maps of input and state in each step.
        parts: Arrays in the state.
        step: One step of the layer.
        bias: `bias(h)` gives the biases `[gates * h]` that training starts from.
    """

    gates: int
    parts: int
    step: Step
    bias: Callable[[int], Array]


class RecurrentLayer(nnx.Module):
    """One recurrent layer."""

    def __init__(self, inputs: int, size: int, cell: RecurrentCell, initialiser: Initialiser, rngs: nnx.Rngs):
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
        # what the inputs add needs no loop
        inputs = (x @ self.kernel[...] + self.bias[...]).swapaxes(0, 1)
        state = (jnp.zeros((len(x), self.size), inputs.dtype),) * self.cell.parts
        past = 0 if truncate is None else max(0, len(inputs) - truncate)
        run: Any = partial(_run, self.cell.step)
        state, before = jax.lax.stop_gradient(run(state, inputs[:past], recurrent))
        _, after = run(state, inputs[past:], recurrent)
        return jnp.concatenate([before, after]).swapaxes(0, 1)


class RecurrentNetwork(nnx.Module):
    """Recurrent layers one upon the other, and a linear layer at the last step."""

    def __init__(
        self, features: int, vocabulary: int | None, sizes: tuple[int, ...], cell: RecurrentCell, truncate: int | None,
        dropout: float, outputs: int, initialiser: Initialiser, rngs: nnx.Rngs,
    ):  # fmt: skip
        self.characters = None if vocabulary is None else Characters(vocabulary, features, rngs)
        inputs = (features, *sizes[:-1])
        self.layers = nnx.List(
            [RecurrentLayer(a, b, cell, initialiser, rngs) for a, b in zip(inputs, sizes, strict=True)]
        )
        self.output = nnx.Linear(sizes[-1], outputs, kernel_init=INITIALISERS[initialiser], rngs=rngs)
        self.drop = build_dropout(dropout, rngs)
        self.truncate = truncate

    def __call__(self, x: Array) -> Array:
        if self.characters is not None:
            x = self.characters(x)
        for layer in self.layers:
            x = self.drop(layer(x, self.truncate))
        return self.output(x[:, -1])


def build_recurrent(
    name: str, cell: RecurrentCell, shape: tuple[int, ...], classes: int | None, *, hidden: int, layers: int,
    embedding: int, vocabulary: int | None, truncate: int | None, dropout: float, initialiser: Initialiser,
) -> Model:  # fmt: skip
    """The model of recurrent layers one upon the other, and a linear layer at the last step.

    Args:
        name: Of the model, for messages.
        cell: The kind of its layers.
        shape: Of one sample.
        classes: The number of labels; None for a regression.
        hidden: Units of each layer.
        layers: Number of layers.
        embedding: Size of the vector of a character.
        vocabulary: The number of different characters; None takes as many as classes.
        truncate: Steps that gradients go back from the last one; None for all.
        dropout: Share of the outputs of each layer that are set to 0 while training.
        initialiser: Of the weights of inputs and output.

    Returns:
        The model.

    Raises:
        PartError: For samples that are no sequences.
        OptionError: For a vocabulary that is missing or out of place.
    """
    check(shape, classes)
    characters = vocabulary_size(name, shape, classes, vocabulary)
    features = shape[1] if characters is None else embedding
    sizes = (hidden,) * layers

    def create(rngs: nnx.Rngs) -> nnx.Module:
        return RecurrentNetwork(
            features, characters, sizes, cell, truncate, dropout, num_outputs(classes), initialiser, rngs
        )

    return from_module(create, classes, batch=False)
