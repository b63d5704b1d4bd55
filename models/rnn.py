"""Simple recurrent network."""

import jax.numpy as jnp

from byzax.models._layers import ACTIVATIONS, Activation, Array, Initialiser, known
from byzax.models._recurrent import Cell, State, recurrent
from byzax.models.base import Model


def rnn(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    hidden: int = 128,
    layers: int = 1,
    embedding: int = 8,
    vocabulary: int | None = None,
    truncate: int | None = None,
    dropout: float = 0.0,
    initialiser: Initialiser = "glorot_uniform",
    activation: Activation = "tanh",
) -> Model:
    """A simple recurrent network: each step's state is one layer over the input and the state before.

    h = activation(x W + h U + b), from h = 0. Samples are characters, `(t,)` whole numbers which an embedding turns
    into vectors, or numbers `(t, features)`, such as the rows of an image. The output is a linear layer at the last
    step.

    Parameters: hidden * (inputs + hidden + 1) a layer, the first one's inputs being embedding or features;
    vocabulary * embedding; (hidden + 1) * classes
    Source: Elman, Cognitive Science 1990, "Finding structure in time"; Williams and Peng 1990 (truncation)

    Args:
        hidden: units of each layer.
        layers: how many, each reading the outputs of the one before.
        embedding: numbers that a character is turned into.
        vocabulary: of characters; null: as many as classes.
        truncate: steps that gradients go back from the last one, truncated back-propagation through time; null: all.
        dropout: share of the outputs of each layer that are set to 0 while training.
        initialiser: of the weights of inputs and output, as jax.nn.initializers calls it; those of the state start
            orthogonal.
        activation: of the state.

    Raises:
        ValueError: for samples that are no sequences, a vocabulary that is missing, an option out of range or an
            unknown name.
    """
    known("rnn", "activation", activation, ACTIVATIONS)
    act = ACTIVATIONS[activation]

    def step(state: State, given: Array, recurrent: Array) -> State:
        return (act(given + state[0] @ recurrent),)

    cell = Cell(1, 1, step, lambda size: jnp.zeros(size))
    return recurrent(
        "rnn", cell, shape, classes, hidden=hidden, layers=layers, embedding=embedding,
        vocabulary=vocabulary, truncate=truncate, dropout=dropout, initialiser=initialiser,
    )  # fmt: skip
