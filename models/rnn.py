"""Simple recurrent network (Elman 1990)."""

import jax.numpy as jnp

from byzax.models._layers import ACTIVATIONS, Activation, Array, Initialiser
from byzax.models._recurrent import RecurrentCell, State, build_recurrent
from byzax.models.base import Count, DropoutRate, Model
from byzax.options import checked


@checked
def rnn(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    hidden: Count = 128,
    layers: Count = 1,
    embedding: Count = 8,
    vocabulary: Count | None = None,
    truncate: Count | None = None,
    dropout: DropoutRate = 0.0,
    initialiser: Initialiser = "glorot_uniform",
    activation: Activation = "tanh",
) -> Model:
    """A simple recurrent network: each step's state is one layer over the input and the state before.

    h = activation(x W + h U + b), from h = 0. Samples are characters, `(t,)` whole numbers which an embedding turns
    into vectors, or numbers `(t, features)`, such as the rows of an image. The output is a linear layer at the last
    step.

    Size: hidden * (inputs + hidden + 1) a layer, the first one's inputs being embedding or features;
        vocabulary * embedding; (hidden + 1) * classes

    Args:
        shape: Of one sample, `(t,)` or `(t, features)`.
        classes: The number of labels; None for a regression.
        hidden: Units of each layer.
        layers: Number of layers, each reading the outputs of the one before.
        embedding: Size of the vector of a character.
        vocabulary: Number of different characters. None: as many as classes.
        truncate: Steps that gradients go back from the last one, truncated back-propagation through time. None: all.
        dropout: Share of the outputs of each layer that are set to 0 while training.
        initialiser: Of the weights of inputs and output, as jax.nn.initializers calls it; those of the state start
            orthogonal.
        activation: Of the state.

    Returns:
        The model.

    Raises:
        PartError: For samples that are no sequences.
        OptionError: For an option out of its range, or a vocabulary that is missing or out of place.

    References:
        Elman, Cognitive Science 1990, "Finding structure in time"
        Williams and Peng 1990 (truncation)
    """
    activate = ACTIVATIONS[activation]

    def step(state: State, inputs: Array, recurrent: Array) -> tuple[State, State]:
        return (activate(inputs + state[0] @ recurrent),), state

    cell = RecurrentCell(1, 1, step, lambda size: jnp.zeros(size))
    return build_recurrent(
        "rnn", cell, shape, classes, hidden=hidden, layers=layers, embedding=embedding,
        vocabulary=vocabulary, truncate=truncate, dropout=dropout, initialiser=initialiser,
    )  # fmt: skip
