"""Samples as models for sequences read them: characters, as whole numbers `[b, t]`, or numbers `[b, t, features]`."""

import jax.numpy as jnp
from flax import nnx

from byzax.models._layers import Array
from byzax.options import OptionError, PartError


class Characters(nnx.Module):
    """A vector for each character, `[b, t] -> [b, t, size]`."""

    def __init__(self, vocabulary: int, size: int, rngs: nnx.Rngs):
        self.table = nnx.Embed(vocabulary, size, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise PartError(
                f"samples of shape (t,) are read as characters, whole numbers below the vocabulary; these are "
                f"{x.dtype}: sequences of other numbers have the shape (t, features)"
            )
        return self.table(x)


def vocabulary_size(name: str, shape: tuple[int, ...], classes: int | None, vocabulary: int | None) -> int | None:
    """The number of different characters.

    Args:
        name: Of the model, for messages.
        shape: Of one sample.
        classes: The number of labels; None for a regression.
        vocabulary: The option of the model; None takes as many as classes.

    Returns:
        The number; None for sequences of other numbers.

    Raises:
        PartError: For samples that are no sequences.
        OptionError: For a vocabulary that is missing or out of place.
    """
    if len(shape) not in (1, 2):
        raise PartError(
            f"{name} needs sequences: characters of shape (t,) or numbers of shape (t, features), got samples of shape "
            f"{tuple(shape)}"
        )
    if len(shape) == 2:
        if vocabulary is not None:
            raise OptionError(
                "vocabulary",
                f"must be null: it is for characters, and these are numbers of shape {tuple(shape)}, got {vocabulary}",
            )
        return None
    found = classes if vocabulary is None else vocabulary
    if found is None:
        raise OptionError("vocabulary", "must be the number of characters where the data has no classes, got None")
    return found
