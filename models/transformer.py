"""Small causal transformer (Vaswani et al. 2017; pre-norm as in GPT-2)."""

import jax
from flax import nnx

from byzax.models._layers import EPSILON, INITIALISERS, Array, Initialiser, build_dropout, num_outputs
from byzax.models._sequence import Characters, vocabulary_size
from byzax.models._splitting import split_along
from byzax.models.base import Count, DropoutRate, Model, check, from_module
from byzax.options import OptionError, checked


class TransformerBlock(nnx.Module):
    """Attention to this step and those before it, then two layers at each step; each normalised first and added."""

    def __init__(self, width: int, heads: int, dropout: float, initialiser: Initialiser, rngs: nnx.Rngs):
        start = INITIALISERS[initialiser]
        self.attention_norm = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)
        self.attention_in = nnx.Linear(width, 3 * width, kernel_init=start, rngs=rngs)
        self.mix_heads = nnx.Linear(width, width, kernel_init=start, rngs=rngs)
        self.inner_norm = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)
        self.inner = nnx.Linear(width, 4 * width, kernel_init=start, rngs=rngs)
        self.outer = nnx.Linear(4 * width, width, kernel_init=start, rngs=rngs)
        self.drop = build_dropout(dropout, rngs)
        self.heads = heads

    def __call__(self, x: Array) -> Array:
        b, t, width = x.shape
        qkv = self.attention_in(self.attention_norm(x)).reshape(b, t, 3, self.heads, width // self.heads)
        qkv = split_along(qkv, 3)
        attended = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], is_causal=True)
        x = x + self.drop(self.mix_heads(attended.reshape(b, t, width)))
        return x + self.drop(self.outer(nnx.gelu(self.inner(self.inner_norm(x)))))


class TransformerNetwork(nnx.Module):
    """Embeddings of steps and positions, blocks one upon the other, and a linear layer at the last step."""

    def __init__(
        self, length: int, features: int, vocabulary: int | None, width: int, heads: int, layers: int, dropout: float,
        outputs: int, initialiser: Initialiser, rngs: nnx.Rngs,
    ):  # fmt: skip
        if vocabulary is None:
            self.read = nnx.Linear(features, width, kernel_init=INITIALISERS[initialiser], rngs=rngs)
        else:
            self.read = Characters(vocabulary, width, rngs)
        # as in GPT-2
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (length, width)))
        self.drop = build_dropout(dropout, rngs)
        self.blocks = nnx.List([TransformerBlock(width, heads, dropout, initialiser, rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)
        self.output = nnx.Linear(width, outputs, kernel_init=INITIALISERS[initialiser], rngs=rngs)

    def states(self, x: Array) -> Array:
        """The vector of each step after the last block, `[b, t, width]`."""
        x = self.drop(self.read(x) + self.positions[...])
        for block in self.blocks:
            x = block(x)
        return x

    def __call__(self, x: Array) -> Array:
        return self.output(self.norm(self.states(x)[:, -1]))


@checked
def transformer(
    shape: tuple[int, ...],
    classes: int | None,
    *,
    width: Count = 64,
    heads: Count = 4,
    layers: Count = 2,
    vocabulary: Count | None = None,
    dropout: DropoutRate = 0.0,
    initialiser: Initialiser = "glorot_uniform",
) -> Model:
    """A small causal transformer: each step attends to itself and those before; the output is read at the last.

    Samples are characters, `(t,)` whole numbers, or numbers `(t, features)`, such as the rows of an image; a vector for
    each position is added, which is learnt. Each of the layers is attention and a network of 4 * width hidden units
    with GELU, both after a layer norm (pre-norm) and added to what came in; a layer norm and a linear layer end it.

    Size: layers * (12 width² + 13 width) + t * width + 2 width + (width + 1) * classes, and width * vocabulary
        or width * (features + 1); 115,536 for sequences of 80 of 80 characters

    Args:
        shape: Of one sample, `(t,)` or `(t, features)`.
        classes: The number of labels; None for a regression.
        width: Of the vector of each step.
        heads: Of the attention; they divide the width.
        layers: Number of blocks.
        vocabulary: Number of different characters. None: as many as classes.
        dropout: Share of what each part adds that is set to 0 while training.
        initialiser: Of all weights but the embeddings, as jax.nn.initializers calls it; biases start from 0.

    Returns:
        The model.

    Raises:
        PartError: For samples that are no sequences.
        OptionError: For an option out of its range, a vocabulary that is missing or out of place, or heads that do not
            divide the width.

    References:
        Vaswani et al., NeurIPS 2017, "Attention is all you need"
        Radford et al. 2019 (GPT-2, pre-norm)
    """
    check(shape, classes)
    characters = vocabulary_size("transformer", shape, classes, vocabulary)
    if width % heads:
        raise OptionError("heads", f"must divide the width = {width}, got {heads}")
    length, features = shape[0], shape[-1]

    def create(rngs: nnx.Rngs) -> nnx.Module:
        return TransformerNetwork(
            length, features, characters, width, heads, layers, dropout, num_outputs(classes), initialiser, rngs
        )

    return from_module(create, classes, batch=False)
