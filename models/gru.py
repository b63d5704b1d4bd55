"""Gated recurrent units."""

import jax.numpy as jnp
from flax import nnx

from byzax.models._layers import Array, Initialiser
from byzax.models._recurrent import Cell, State, recurrent
from byzax.models.base import Model


def _step(state: State, given: Array, recurrent: Array) -> State:
    (hidden,) = state
    size = hidden.shape[1]
    gates = nnx.sigmoid(given[:, : 2 * size] + hidden @ recurrent[:, : 2 * size])
    keep, reset = jnp.split(gates, 2, axis=1)
    # reset before the product, as in the paper; cuDNN and PyTorch reset after it
    new = jnp.tanh(given[:, 2 * size :] + (reset * hidden) @ recurrent[:, 2 * size :])
    return (keep * hidden + (1 - keep) * new,)


def gru(
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
) -> Model:
    """Gated recurrent units: each step keeps a part of the state and replaces the rest, by gates over input and state.

    z, r = sigmoid(x W + h U + b), each with weights of its own; n = tanh(x W + (r h) U + b); h = z h + (1 - z) n, from
    h = 0. Samples are characters, `(t,)` whole numbers which an embedding turns into vectors, or numbers `(t,
    features)`, such as the rows of an image. The output is a linear layer at the last step.

    Parameters: 3 * hidden * (inputs + hidden + 1) a layer, the first one's inputs being embedding or features;
    vocabulary * embedding; (hidden + 1) * classes
    Source: Cho et al., EMNLP 2014, "Learning phrase representations using RNN encoder-decoder", equations 5 to 8

    Args:
        hidden: units of each layer.
        layers: how many, each reading the outputs of the one before.
        embedding: numbers that a character is turned into.
        vocabulary: of characters; null: as many as classes.
        truncate: steps that gradients go back from the last one, truncated back-propagation through time; null: all.
        dropout: share of the outputs of each layer that are set to 0 while training.
        initialiser: of the weights of inputs and output, as jax.nn.initializers calls it; those of the state start
            orthogonal.

    Raises:
        ValueError: for samples that are no sequences, a vocabulary that is missing, an option out of range or an
            unknown name.
    """
    cell = Cell(3, 1, _step, lambda size: jnp.zeros(3 * size))
    return recurrent(
        "gru", cell, shape, classes, hidden=hidden, layers=layers, embedding=embedding,
        vocabulary=vocabulary, truncate=truncate, dropout=dropout, initialiser=initialiser,
    )  # fmt: skip
