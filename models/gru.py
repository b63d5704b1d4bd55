"""Gated recurrent units (Cho et al. 2014)."""

import jax.numpy as jnp
from flax import nnx

from byzax.models._layers import Array, Initialiser
from byzax.models._recurrent import RecurrentCell, State, build_recurrent
from byzax.models.base import Count, DropoutRate, Model
from byzax.options import checked


def _step(state: State, inputs: Array, recurrent: Array) -> tuple[State, State]:
    (hidden,) = state
    size = hidden.shape[1]
    gates = nnx.sigmoid(inputs[:, : 2 * size] + hidden @ recurrent[:, : 2 * size])
    keep, reset = jnp.split(gates, 2, axis=1)
    # reset before the product, as in the paper; cuDNN and PyTorch reset after it
    kept = reset * hidden
    new = jnp.tanh(inputs[:, 2 * size :] + kept @ recurrent[:, 2 * size :])
    return (keep * hidden + (1 - keep) * new,), (hidden, hidden, kept)


@checked
def gru(
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
) -> Model:
    """Gated recurrent units: each step keeps a part of the state and replaces the rest, by gates over input and state.

    z, r = sigmoid(x W + h U + b), each with weights of its own; n = tanh(x W + (r h) U + b); h = z h + (1 - z) n, from
    h = 0. Samples are characters, `(t,)` whole numbers which an embedding turns into vectors, or numbers `(t,
    features)`, such as the rows of an image. The output is a linear layer at the last step.

    Size: 3 * hidden * (inputs + hidden + 1) a layer, the first one's inputs being embedding or features;
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

    Returns:
        The model.

    Raises:
        PartError: For samples that are no sequences.
        OptionError: For an option out of its range, or a vocabulary that is missing or out of place.

    References:
        Cho et al., EMNLP 2014, "Learning phrase representations using RNN encoder-decoder", equations 5 to 8
    """
    cell = RecurrentCell(3, 1, _step, lambda size: jnp.zeros(3 * size))
    return build_recurrent(
        "gru", cell, shape, classes, hidden=hidden, layers=layers, embedding=embedding,
        vocabulary=vocabulary, truncate=truncate, dropout=dropout, initialiser=initialiser,
    )  # fmt: skip
