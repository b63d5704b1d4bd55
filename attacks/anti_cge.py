"""Against comparative gradient elimination (own): rows against the mean, as long as the rule still keeps."""

from typing import Annotated

import jax.numpy as jnp
from pydantic import Field

from byzax.attacks._search import length
from byzax.attacks.base import Array, Attack, View, check, honest_mean, stateless
from byzax.options import OptionError, checked

# below the next longer row by more than float32 can err about a length
JUST_BELOW = 1 - 1e-5


@checked
def anti_cge(n: int, f: int, *, cut: Annotated[int, Field(ge=0)] | None = None) -> Attack:
    """All Byzantine rows point against the honest mean, as long as they can be without being among the rows cut.

    Comparative gradient elimination cuts the f longest rows. With b Byzantine rows of one length in an update of n rows
    it cuts honest ones as long as at most n - f - b of these are shorter.

    Formula: -R mean / |mean|, R just below the (n - f - b + 1)-th smallest norm of the n - b honest rows
    Knows: all honest rows

    No f rows that are kept have a larger inner product against the mean. Where only some rows are known R is the same
    quantile of their norms.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        cut: Number of rows that the rule cuts. None: f.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range, or cut > n.

    References:
        byzax's own, from the definition of cge (Gupta, Liu and Vaidya 2020); no paper is known to us
    """
    check("anti_cge", n, f)
    num_cut = f if cut is None else cut
    if num_cut > n:
        raise OptionError("cut", f"must be at most n = {n}, got {cut}")

    def make_row(key: Array, view: View) -> Array:
        mean = honest_mean(view)
        norms = jnp.sort(jnp.where(view.known, jnp.linalg.norm(view.rows.astype(mean.dtype), axis=1), jnp.inf))
        known, honest = view.known.sum(), (~view.byzantine).sum()
        shorter = (honest - num_cut) * known // jnp.maximum(honest, 1)
        place = jnp.clip(shorter, 0, jnp.maximum(known - 1, 0))
        size = jnp.where(known > 0, norms[place], 0) * JUST_BELOW
        mean_length = length(mean)
        return -mean * (size / jnp.where(mean_length > 0, mean_length, 1))

    return stateless(make_row, reads_own=False)
