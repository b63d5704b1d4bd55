"""One liar chooses the average."""

from typing import Literal

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, View, check, count_of, honest_mean, rank, stateless


def hijack(n: int, f: int, *, target: Literal["reverse", "zero", "constant"] = "reverse", scale: float = 1.0) -> Attack:
    """One Byzantine row makes the plain average of all rows equal any chosen vector U.

    The first Byzantine row of the update does it alone, which is the point of the proof; the other Byzantine workers
    send what they computed. An update without a Byzantine row is left alone.

    Formula: rows * U - sum of the other rows; U = -scale * honest mean, 0, or scale at every coordinate
    Knows: all honest rows
    Source: Blanchard et al. 2017, Lemma 1 (no linear rule tolerates a single Byzantine worker)

    Args:
        target: "reverse" (U = -scale * honest mean: training climbs), "zero" (U = 0: the model stands still) or
            "constant" (U = scale at every coordinate: the model drifts).
        scale: the size of U; not used by "zero".

    Raises:
        ValueError: unless 0 <= f <= n, or for an unknown target.
    """
    check("hijack", n, f)
    if target not in ("reverse", "zero", "constant"):
        raise ValueError(f'hijack knows the targets "reverse", "zero" and "constant", got {target!r}')

    def forged(key: Array, view: View) -> Array:
        mean = honest_mean(view)
        wanted = {"reverse": -scale * mean, "zero": jnp.zeros_like(mean), "constant": jnp.full_like(mean, scale)}[
            target
        ]
        liar = view.byzantine & (rank(view.byzantine) == 0)
        others = jnp.where(liar[:, None], 0, view.rows.astype(mean.dtype)).sum(axis=0)
        return jnp.where(liar[:, None], count_of(view) * wanted - others, view.rows)

    return stateless(forged)
