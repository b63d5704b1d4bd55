"""How models for sequences read a sample: characters, as whole numbers `[b, t]`, or numbers `[b, t, features]`."""

import jax.numpy as jnp
from flax import nnx

from byzax.models._layers import Array


class Characters(nnx.Module):
    """A vector for each character, `[b, t] -> [b, t, size]`."""

    def __init__(self, vocabulary: int, size: int, rngs: nnx.Rngs):
        self.table = nnx.Embed(vocabulary, size, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(
                f"samples of shape (t,) are read as characters, whole numbers below the vocabulary; these are "
                f"{x.dtype}: sequences of other numbers have the shape (t, features)"
            )
        return self.table(x)


def vocabulary_of(name: str, shape: tuple[int, ...], classes: int | None, vocabulary: int | None) -> int | None:
    """How many different characters there are, by default as many as classes; None for sequences of other numbers.

    Raises ValueError for samples that are no sequences, and for a vocabulary that is missing or out of place.
    """
    if len(shape) not in (1, 2):
        raise ValueError(
            f"{name} needs sequences: characters of shape (t,) or numbers of shape (t, features), got samples of shape "
            f"{tuple(shape)}"
        )
    if len(shape) == 2:
        if vocabulary is not None:
            raise ValueError(f"{name}: vocabulary is for characters, and these are numbers of shape {tuple(shape)}")
        return None
    found = classes if vocabulary is None else vocabulary
    if found is None or found < 1:
        raise ValueError(f"{name} needs the number of characters, vocabulary >= 1, got {vocabulary}")
    return found
