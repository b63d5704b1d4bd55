"""As long as a rule that looks at lengths allows."""

import jax.numpy as jnp

from byzax.attacks._search import length
from byzax.attacks.base import Array, Attack, View, check, honest_mean, stateless

# below the next longer row by more than float32 can err about a length
JUST_BELOW = 1 - 1e-5


def anti_cge(n: int, f: int, *, cut: int | None = None) -> Attack:
    """All Byzantine rows point against the honest mean, as long as they can be without being among the rows cut.

    Comparative gradient elimination cuts the f longest rows. With b liars of one length in an update of n rows it
    cuts honest ones as long as at most n - f - b of these are shorter.

    Formula: -R mean / |mean|, R just below the (n - f - b + 1)-th smallest norm of the n - b honest rows
    Knows: all honest rows
    Source: byzax's own, from the definition of cge (Gupta, Liu and Vaidya 2020); no paper is known to us

    No f rows that are kept have a larger inner product against the mean. Where only some rows are known R is the same
    quantile of their norms.

    Args:
        cut: how many rows the rule cuts, if it is told another number than f.

    Raises:
        ValueError: unless 0 <= f <= n and 0 <= cut <= n.
    """
    check("anti_cge", n, f)
    longest = f if cut is None else cut
    if not 0 <= longest <= n:
        raise ValueError(f"anti_cge needs 0 <= cut <= n = {n}, got {cut}")

    def forged(key: Array, view: View) -> Array:
        mean = honest_mean(view)
        norms = jnp.sort(jnp.where(view.known, jnp.linalg.norm(view.rows.astype(mean.dtype), axis=1), jnp.inf))
        known, honest = view.known.sum(), (~view.byzantine).sum()
        shorter = (honest - longest) * known // jnp.maximum(honest, 1)
        place = jnp.clip(shorter, 0, jnp.maximum(known - 1, 0))
        size = jnp.where(known > 0, norms[place], 0) * JUST_BELOW
        found = length(mean)
        return -mean * (size / jnp.where(found > 0, found, 1))

    return stateless(forged)
