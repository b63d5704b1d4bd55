"""Lemma 1 of Krum (Blanchard et al. 2017): one Byzantine row that makes the average any chosen vector."""

from typing import Literal

import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Finite, View, check, honest_mean, num_rows, rank, stateless
from byzax.options import checked


@checked
def hijack(
    n: int, f: int, *, target: Literal["reverse", "zero", "constant"] = "reverse", scale: Finite = 1.0
) -> Attack:
    """One Byzantine row makes the plain average of all rows equal any chosen vector U.

    The first Byzantine row of the update does it alone, which is the point of the proof; the other Byzantine workers
    send what they computed. An update without a Byzantine row is left alone.

    Formula: rows * U - sum of the other rows; U = -scale * honest mean, 0, or scale at every coordinate
    Knows: all honest rows

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        target: "reverse" (U = -scale * honest mean: training climbs), "zero" (U = 0: the model stands still) or
            "constant" (U = scale at every coordinate: the model drifts).
        scale: The size of U; not used by "zero".

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Blanchard et al. 2017, Lemma 1 (no linear rule tolerates a single Byzantine worker)
    """
    check("hijack", n, f)

    def make_rows(key: Array, view: View) -> Array:
        mean = honest_mean(view)
        if target == "reverse":
            average = -scale * mean
        elif target == "zero":
            average = jnp.zeros_like(mean)
        else:
            average = jnp.full_like(mean, scale)
        hijacker = view.byzantine & (rank(view.byzantine) == 0)
        others = jnp.where(hijacker[:, None], 0, view.rows.astype(mean.dtype)).sum(axis=0)
        return jnp.where(hijacker[:, None], num_rows(view) * average - others, view.rows)

    return stateless(make_rows)
