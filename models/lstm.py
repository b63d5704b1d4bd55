"""Long short-term memory (Hochreiter and Schmidhuber 1997)."""

import jax.numpy as jnp
from flax import nnx

from byzax.models._layers import Array, Initialiser
from byzax.models._recurrent import RecurrentCell, State, build_recurrent
from byzax.models.base import Count, DropoutRate, Finite, Model
from byzax.options import checked


def _step(state: State, inputs: Array, recurrent: Array) -> tuple[State, State]:
    hidden, memory = state
    enter, forget, new, leave = jnp.split(inputs + hidden @ recurrent, 4, axis=1)
    memory = nnx.sigmoid(forget) * memory + nnx.sigmoid(enter) * jnp.tanh(new)
    return (nnx.sigmoid(leave) * jnp.tanh(memory), memory), (hidden,)


@checked
def lstm(
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
    forget_bias: Finite = 1.0,
) -> Model:
    """Long short-term memory: each step adds to a memory and lets a part of it out, by gates over input and output.

    i, f, o = sigmoid(x W + h U + b), each with weights of its own, g = tanh of the same; c = f c + i g; h = o tanh(c),
    from h = c = 0. Samples are characters, `(t,)` whole numbers which an embedding turns into vectors, or numbers `(t,
    features)`, such as the rows of an image. The output is a linear layer at the last step.

    Size: 4 * hidden * (inputs + hidden + 1) a layer, the first one's inputs being embedding or features;
        vocabulary * embedding; (hidden + 1) * classes; 820,522 for 90 characters, embedding 8, two layers of 256

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
        forget_bias: Of the forget gate at the start; the other biases start from 0.

    Returns:
        The model.

    Raises:
        PartError: For samples that are no sequences.
        OptionError: For an option out of its range, or a vocabulary that is missing or out of place.

    References:
        Hochreiter and Schmidhuber, Neural Computation 1997
        Gers, Schmidhuber and Cummins 2000 (forget gate)
        McMahan et al., AISTATS 2017 (characters of Shakespeare, two layers of 256)
    """

    def bias(size: int) -> Array:
        return jnp.zeros(4 * size).at[size : 2 * size].set(forget_bias)

    cell = RecurrentCell(4, 2, _step, bias)
    return build_recurrent(
        "lstm", cell, shape, classes, hidden=hidden, layers=layers, embedding=embedding,
        vocabulary=vocabulary, truncate=truncate, dropout=dropout, initialiser=initialiser,
    )  # fmt: skip
