"""Gaussian attack (Blanchard et al. 2017): random rows from a wide normal distribution."""

from typing import Literal

import jax

from byzax.attacks.base import Array, Attack, NotNegative, View, check, honest_mean, rank, stateless
from byzax.options import checked


@checked
def gaussian(
    n: int, f: int, *, standard_deviation: NotNegative = 200.0, centre: Literal["zero", "mean"] = "zero"
) -> Attack:
    """Each Byzantine row is its own draw from a wide normal distribution.

    Formula: N(c, standard_deviation² I), c = 0 or the honest mean
    Knows: nothing

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        standard_deviation: Of each coordinate.
        centre: "zero" as in the paper, or "mean", the honest mean of the update (which then
            has to be known).

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Blanchard et al. 2017, experiments ("Gaussian", standard deviation 200)
    """
    check("gaussian", n, f)

    def make_rows(key: Array, view: View) -> Array:
        # f draws, not n: normal numbers are the whole cost of this attack
        draws = jax.random.normal(key, (max(f, 1), view.rows.shape[1]), view.rows.dtype)
        noise = standard_deviation * draws[rank(view.byzantine)]
        return noise + honest_mean(view) if centre == "mean" else noise

    return stateless(make_rows, reads_own=False)
