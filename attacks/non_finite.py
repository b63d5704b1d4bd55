"""Rows that are no numbers, or hardly."""

from typing import Literal

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, View, check, rank, stateless

VALUES = {"nan": jnp.nan, "inf": jnp.inf, "-inf": -jnp.inf}
HUGE = 1e30  # finite, but its square is not in float32


def non_finite(n: int, f: int, *, value: Literal["nan", "inf", "-inf", "mixed"] | float = "nan") -> Attack:
    """Byzantine rows full of NaN, infinity or a huge number, as from a crash or a broken wire.

    Formula: the value at every coordinate; "mixed": NaN, infinity, -infinity, 1e30 from the first, second, ... liar
    Knows: nothing
    Source: Damaskinos et al. 2019 (AggregaThor), where lost packets are read as NaN

    Args:
        value: what fills the rows: one of the words, or a number such as 1e30, whose square is infinite in float32.

    Raises:
        ValueError: unless 0 <= f <= n, or for an unknown value.
    """
    check("non_finite", n, f)
    if isinstance(value, str) and value not in (*VALUES, "mixed"):
        raise ValueError(f"non_finite knows numbers and the values {', '.join(VALUES)} and mixed, got {value!r}")
    values = [*VALUES.values(), HUGE] if value == "mixed" else [VALUES[value] if isinstance(value, str) else value]

    def forged(key: Array, view: View) -> Array:
        turn = rank(view.byzantine) % len(values)
        return jnp.broadcast_to(jnp.asarray(values)[turn, None], view.rows.shape)

    return stateless(forged)
