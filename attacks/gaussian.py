"""Random rows."""

from typing import Literal

import jax

from byzax.attacks.base import Array, Attack, View, check, honest_mean, rank, stateless


def gaussian(n: int, f: int, *, standard_deviation: float = 200.0, centre: Literal["zero", "mean"] = "zero") -> Attack:
    """Each Byzantine row is its own draw from a wide normal distribution.

    Formula: N(c, standard_deviation² I), c = 0 or the honest mean
    Knows: nothing
    Source: Blanchard et al. 2017, experiments ("Gaussian", standard deviation 200)

    Args:
        standard_deviation: of each coordinate.
        centre: "zero" as in the paper, or "mean", the honest mean of the update (which then
            has to be known).

    Raises:
        ValueError: unless 0 <= f <= n, for a negative standard deviation or an unknown centre.
    """
    check("gaussian", n, f)
    if not standard_deviation >= 0:
        raise ValueError(f"gaussian needs standard_deviation >= 0, got {standard_deviation}")
    if centre not in ("zero", "mean"):
        raise ValueError(f'gaussian knows the centres "zero" and "mean", got {centre!r}')

    def forged(key: Array, view: View) -> Array:
        # f draws, not n: normal numbers are the whole cost of this attack
        draws = jax.random.normal(key, (max(f, 1), view.rows.shape[1]), view.rows.dtype)
        noise = standard_deviation * draws[rank(view.byzantine)]
        return noise + honest_mean(view) if centre == "mean" else noise

    return stateless(forged)
