"""Small causal transformer."""

import jax
from flax import nnx

from byzax.models._layers import EPSILON, INITIALISERS, Array, Initialiser, dropped, known, outputs_of
from byzax.models._layers import dropout as dropping
from byzax.models._sequence import Characters, vocabulary_of
from byzax.models.base import Model, check, from_module


class Block(nnx.Module):
    """Attention to this step and those before it, then two layers at each step; each normalised first and added."""

    def __init__(self, width: int, heads: int, rate: float, initialiser: str, rngs: nnx.Rngs):
        start = INITIALISERS[initialiser]
        self.attention_norm = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)
        self.asked = nnx.Linear(width, 3 * width, kernel_init=start, rngs=rngs)
        self.mixed = nnx.Linear(width, width, kernel_init=start, rngs=rngs)
        self.inner_norm = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)
        self.inner = nnx.Linear(width, 4 * width, kernel_init=start, rngs=rngs)
        self.outer = nnx.Linear(4 * width, width, kernel_init=start, rngs=rngs)
        self.drop = dropping(rate, rngs)
        self.heads = heads

    def __call__(self, x: Array) -> Array:
        b, t, width = x.shape
        asked = self.asked(self.attention_norm(x)).reshape(b, t, 3, self.heads, width // self.heads)
        seen = jax.nn.dot_product_attention(asked[:, :, 0], asked[:, :, 1], asked[:, :, 2], is_causal=True)
        x = x + self.drop(self.mixed(seen.reshape(b, t, width)))
        return x + self.drop(self.outer(nnx.gelu(self.inner(self.inner_norm(x)))))


class Network(nnx.Module):
    def __init__(
        self, length: int, features: int, vocabulary: int | None, width: int, heads: int, layers: int, rate: float,
        outputs: int, initialiser: str, rngs: nnx.Rngs,
    ):  # fmt: skip
        if vocabulary is None:
            self.read = nnx.Linear(features, width, kernel_init=INITIALISERS[initialiser], rngs=rngs)
        else:
            self.read = Characters(vocabulary, width, rngs)
        # as in GPT-2
        self.places = nnx.Param(0.02 * jax.random.normal(rngs.params(), (length, width)))
        self.drop = dropping(rate, rngs)
        self.blocks = nnx.List([Block(width, heads, rate, initialiser, rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)
        self.output = nnx.Linear(width, outputs, kernel_init=INITIALISERS[initialiser], rngs=rngs)

    def states(self, x: Array) -> Array:
        """What each step has become after the last block, `[b, t, width]`."""
        x = self.drop(self.read(x) + self.places[...])
        for block in self.blocks:
            x = block(x)
        return x

    def __call__(self, x: Array) -> Array:
        return self.output(self.norm(self.states(x)[:, -1]))


def transformer(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    width: int = 64,
    heads: int = 4,
    layers: int = 2,
    vocabulary: int | None = None,
    dropout: float = 0.0,
    initialiser: Initialiser = "glorot_uniform",
) -> Model:
    """A small causal transformer: each step attends to itself and those before; the output is read at the last.

    Samples are characters, `(t,)` whole numbers, or numbers `(t, features)`, such as the rows of an image; a vector for
    each place is added, which is learnt. Each of the layers is attention and a network of 4 * width hidden units with
    GELU, both after a layer norm (pre-norm) and added to what came in; a layer norm and a linear layer end it.

    Parameters: layers * (12 width² + 13 width) + t * width + 2 width + (width + 1) * classes, and width * vocabulary
    or width * (features + 1); 115,536 for sequences of 80 of 80 characters
    Source: Vaswani et al., NeurIPS 2017, "Attention is all you need"; Radford et al. 2019 (GPT-2, pre-norm)

    Args:
        width: of the vector of each step.
        heads: of the attention; they divide the width.
        layers: number of blocks.
        vocabulary: of characters; null: as many as classes.
        dropout: share of what each part adds that is set to 0 while training.
        initialiser: of all weights but the embeddings, as jax.nn.initializers calls it; biases start from 0.

    Raises:
        ValueError: for samples that are no sequences, a vocabulary that is missing, an option out of range, heads that
            do not divide the width or an unknown name.
    """
    check(shape, classes)
    characters = vocabulary_of("transformer", shape, classes, vocabulary)
    if min(width, heads, layers) < 1 or width % heads:
        raise ValueError(
            f"transformer needs width, heads and layers >= 1, and heads that divide the width, got width={width}, "
            f"heads={heads}, layers={layers}"
        )
    dropped("transformer", dropout)
    known("transformer", "initialiser", initialiser, INITIALISERS)
    length, features = shape[0], shape[-1]
    return from_module(
        lambda rngs: Network(
            length, features, characters, width, heads, layers, dropout, outputs_of(classes), initialiser, rngs
        ),
        classes,
    )
