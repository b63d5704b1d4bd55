"""A Little Is Enough."""

from statistics import NormalDist
from typing import Literal

import jax.numpy as jnp

from byzax.attacks._search import check_evaluations, harm, strongest
from byzax.attacks.base import Array, Attack, View, check, honest_deviation, honest_mean, stateless


def little(
    n: int,
    f: int,
    *,
    z: float | Literal["search"] | None = None,
    sign: Literal["minus", "plus"] = "minus",
    ddof: Literal[0, 1] = 0,
    evaluations: int = 20,
) -> Attack:
    """All Byzantine rows are the honest mean, shifted at every coordinate by as many deviations as go unnoticed.

    The default z is the paper's: with s = floor(n/2 + 1) - f honest workers needed for a majority, the largest shift
    that s of the n - f honest workers are expected to exceed. It is small or negative for few liars, as there. The
    paper's workers estimate mean and deviation from their own rows; here they see the honest rows, unless the scenario
    says `knowledge: colluding`.

    Formula: mean - z * deviation of the honest rows; z = Phi^-1((n - f - s) / (n - f)), s = floor(n/2 + 1) - f
    Knows: all honest rows
    Source: Baruch, Baruch and Goldberg 2019, "A Little Is Enough", preventing convergence

    Args:
        z: number of standard deviations; None takes the paper's formula, "search" at every update the number that takes
            the rule in use farthest from the honest mean (as Shejwalkar and Houmansadr search for a size).
        sign: "minus" as in the paper; several published codes add.
        ddof: what is taken from the number of rows where the squared differences are divided by it: 0 as in the
            authors' code (np.var), 1 in those of torch.std (byzfl, blades, Shejwalkar and Houmansadr).
        evaluations: how often a search asks the rule in one update; not used by a given z.

    Raises:
        ValueError: unless 0 <= f <= n, for an unknown sign or ddof, fewer than 4 evaluations or more than 1000, a word
            that is not "search", or without z where the formula has no finite value.
    """
    check("little", n, f)
    if sign not in ("minus", "plus"):
        raise ValueError(f'little knows the signs "minus" and "plus", got {sign!r}')
    if isinstance(z, str) and z != "search":
        raise ValueError(f'little needs a number z, none, or "search", got {z!r}')
    if ddof not in (0, 1):
        raise ValueError(f"little knows ddof 0 and 1, got {ddof!r}")
    check_evaluations("little", evaluations)
    number = z if z is not None else default_z(n, f)
    towards = -1.0 if sign == "minus" else 1.0

    def forged(key: Array, view: View) -> Array:
        mean, deviation = honest_mean(view), honest_deviation(view, ddof)

        def row(strength: Array | float) -> Array:
            return mean + towards * strength * deviation

        if not isinstance(number, str):
            return row(number)
        harm_of = harm(view)
        return row(strongest(lambda strength: harm_of(jnp.broadcast_to(row(strength), view.rows.shape)), evaluations))

    return stateless(forged)._replace(questions=evaluations if z == "search" else 0)


def default_z(n: int, f: int) -> float:
    """The paper's z for `n` workers of which `f` are Byzantine; 0 for f = 0, where nobody uses it.

    Raises ValueError where the formula asks for the quantile of 0 (n < 3) or of 1 and more (f > n/2).
    """
    if f == 0:
        return 0.0
    supporters = n // 2 + 1 - f
    if supporters <= 0 or supporters >= n - f:
        raise ValueError(
            f"little has no default z for n={n}, f={f}: the formula needs n >= 3 and f <= {n // 2}; "
            f"give z, such as z: 1.5"
        )
    return NormalDist().inv_cdf((n - f - supporters) / (n - f))
