"""A Little Is Enough (Baruch et al. 2019): the honest mean, shifted by a few deviations."""

from statistics import NormalDist
from typing import Literal

import jax.numpy as jnp

from byzax.attacks._search import Evaluations, build_harm, find_strongest
from byzax.attacks.base import ASKS_RULE, Array, Attack, Finite, View, check, honest_deviation, honest_mean, stateless
from byzax.options import OptionError, checked


@checked
def little(
    n: int,
    f: int,
    *,
    z: Finite | Literal["search"] | None = None,
    sign: Literal["minus", "plus"] = "minus",
    ddof: Literal[0, 1] = 0,
    evaluations: Evaluations = 20,
) -> Attack:
    """All Byzantine rows are the honest mean, shifted at every coordinate by as many deviations as go unnoticed.

    The default z is the paper's: with s = floor(n/2 + 1) - f honest workers needed for a majority, the largest shift
    that s of the n - f honest workers are expected to exceed. It is small or negative for few Byzantine workers, as
    there. The paper's workers estimate mean and deviation from their own rows; here they see the honest rows, unless
    the scenario says `knowledge: colluding`.

    Formula: mean - z * deviation of the honest rows; z = Phi^-1((n - f - s) / (n - f)), s = floor(n/2 + 1) - f
    Knows: all honest rows

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        z: Number of standard deviations; "search": at every update the number that takes the rule in use farthest from
            the honest mean (as Shejwalkar and Houmansadr search for a size). None: the paper's formula.
        sign: "minus" as in the paper; several published codes add.
        ddof: Subtracted from the number of rows where the squared differences are divided by it: 0 as in the authors'
            code (np.var), 1 in those of torch.std (byzfl, blades, Shejwalkar and Houmansadr).
        evaluations: Number of times that a search asks the rule in one update; not used by a given z.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range, or without z where the formula has no finite value.

    References:
        Baruch, Baruch and Goldberg 2019, "A Little Is Enough", preventing convergence
    """
    check("little", n, f)
    number = z if z is not None else default_z(n, f)
    towards = -1.0 if sign == "minus" else 1.0

    def make_row(key: Array, view: View) -> Array:
        mean, deviation = honest_mean(view), honest_deviation(view, ddof)

        def shifted(strength: Array | float) -> Array:
            return mean + towards * strength * deviation

        if not isinstance(number, str):
            return shifted(number)
        harm = build_harm(view)
        return shifted(
            find_strongest(lambda strength: harm(jnp.broadcast_to(shifted(strength), view.rows.shape)), evaluations)
        )

    if isinstance(number, str):
        return stateless(make_row, ASKS_RULE, evaluations, least_known=2, reads_own=False)
    return stateless(make_row, least_known=2, reads_own=False)


def default_z(n: int, f: int) -> float:
    """The paper's number of deviations.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.

    Returns:
        The number; 0 for f = 0, where nobody uses it.

    Raises:
        OptionError: Where the formula asks for the quantile of 0 (n < 3) or of 1 and more (f > n/2).
    """
    if f == 0:
        return 0.0
    supporters = n // 2 + 1 - f
    if supporters <= 0 or supporters >= n - f:
        raise OptionError(
            "z",
            f"must be given, such as z: 1.5: the formula of its default needs n >= 3 and f <= {n // 2}, got n={n}, "
            f"f={f}",
        )
    return NormalDist().inv_cdf((n - f - supporters) / (n - f))
