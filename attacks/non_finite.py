"""Rows that are no numbers, or hardly."""

from typing import Literal

import jax.numpy as jnp

from attacks.base import Array, Attack, View, check, rank, stateless

VALUES = {"nan": jnp.nan, "inf": jnp.inf, "-inf": -jnp.inf, "1e30": 1e30}


def non_finite(n: int, f: int, *, value: Literal["nan", "inf", "-inf", "1e30", "mixed"] = "nan") -> Attack:
    """Byzantine rows full of NaN, infinity or a huge number, as from a crash or a broken wire.

    Formula: the value at every coordinate; "mixed": NaN, infinity, -infinity, 1e30 from the first, second, ... liar
    Knows: nothing
    Source: Damaskinos et al. 2019 (AggregaThor), where lost packets are read as NaN

    Args:
        value: what fills the rows. 1e30 is finite, but its square is not in float32.

    Raises:
        ValueError: unless 0 <= f <= n, or for an unknown value.
    """
    check("non_finite", n, f)
    if value not in (*VALUES, "mixed"):
        raise ValueError(f"non_finite knows the values {', '.join(VALUES)} and mixed, got {value!r}")
    values = list(VALUES.values()) if value == "mixed" else [VALUES[value]]

    def forged(key: Array, view: View) -> Array:
        turn = rank(view.byzantine) % len(values)
        return jnp.broadcast_to(jnp.asarray(values)[turn, None], view.rows.shape)

    return stateless(forged)
