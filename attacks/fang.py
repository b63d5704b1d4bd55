"""Local model poisoning (Fang et al. 2020): rows against the honest mean, made for Krum or for trimmed means."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from pydantic import Field

from byzax.attacks._distances import honest_distances
from byzax.attacks._search import Evaluations, build_acceptance, find_farthest
from byzax.attacks.base import (
    ASKS_RULE,
    Array,
    Attack,
    NotNegative,
    Share,
    View,
    check,
    honest_deviation,
    honest_mean,
    num_rows,
    rank,
    stateless,
)
from byzax.options import checked


@checked
def fang(
    n: int,
    f: int,
    *,
    against: Literal["krum", "trimmed_mean"] = "krum",
    bounds: Literal["rows", "deviations"] = "rows",
    b: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 2.0,
    epsilon: NotNegative = 0.01,
    share: Share | None = None,
    evaluations: Evaluations = 16,
) -> Attack:
    """All Byzantine rows go against the signs of the honest mean, as far as a rule of one kind lets them.

    Formula: krum: -lambda sign(mean), the largest lambda that is selected; trimmed_mean: where the mean is positive a
        number in [min / b, min] or [b min, min], else in [max, b max] or [max, max / b], of the honest rows
    Knows: all honest rows, the rule

    Rows are gradients or changes here: what the paper writes around the received model is written around 0. Against
    krum, lambda is halved from twice the bound of the paper's theorem 1 until a Byzantine row is selected, whichever it
    is, as in the paper and in the code of Shejwalkar and Houmansadr; it is then bisected, where they stop. The rule in
    use is asked, whatever it is. The first Byzantine row is -lambda sign(mean); the others support it from nearby. The
    attack on the trimmed mean is the paper's on the median.

    Early in training, where honest rows agree, Krum may select no row against all signs of their mean, however short:
    the smallest lambda tried is then sent.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        against: The kind of rule; trimmed_mean is also for the median.
        bounds: For trimmed_mean: "rows", the smallest and largest value of the honest rows (full knowledge), or
            "deviations", mean -+ 3 to 4 standard deviations (ddof 0) in their place, as the paper does where only some
            rows are known.
        b: For trimmed_mean with the bounds "rows": how far beyond the honest values.
        epsilon: For krum: the largest distance between the first Byzantine row and the others.
        share: For krum: the part that Byzantine rows must have in the aggregate to count as selected, by the weights of
            the rule where it gives its rows some, else by how far the aggregate goes from the honest mean towards the
            first one: 1 is all of the way. None: half of what an average of all rows goes.
        evaluations: For krum: how often the rule is asked in one update.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        Fang, Cao, Jia and Gong, USENIX Security 2020, "Local Model Poisoning Attacks to Byzantine-Robust Federated
            Learning"
    """
    check("fang", n, f)

    def make_selected(key: Array, view: View) -> Array:
        signs = jnp.sign(honest_mean(view))
        noise_key, reach_key = jax.random.split(key)
        # f draws, not n
        noise = jax.random.normal(noise_key, (max(f, 1), len(signs)), signs.dtype)
        reach = epsilon * jax.random.uniform(reach_key, (max(f, 1), 1), signs.dtype)
        noise = (reach * noise / jnp.linalg.norm(noise, axis=1, keepdims=True)).at[0].set(0)[rank(view.byzantine)]
        accepts = build_acceptance(view, share)
        size = find_farthest(
            lambda size: accepts(noise - size * signs, -size * signs), 2 * _largest_lambda(view, f), evaluations
        )
        return noise - size * signs

    def make_extreme(key: Array, view: View) -> Array:
        mean = honest_mean(view)
        shape = (max(f, 1), len(mean))
        # towards the side that the honest mean is not on
        upwards, still = mean < 0, mean == 0
        if bounds == "deviations":
            shift = jax.random.uniform(key, shape, mean.dtype, 3, 4) * honest_deviation(view)
            values = mean + jnp.where(upwards, shift, -shift)
        else:
            wide = view.rows.astype(mean.dtype)
            known = view.known[:, None]
            largest = jnp.max(jnp.where(known, wide, -jnp.inf), axis=0)
            smallest = jnp.min(jnp.where(known, wide, jnp.inf), axis=0)
            bound = jnp.where(view.known.any(), jnp.where(upwards, largest, smallest), 0)
            factor = jax.random.uniform(key, shape, mean.dtype, 1, b)
            values = jnp.where(upwards == (bound > 0), bound * factor, bound / factor)
        return jnp.where(still, 0, values)[rank(view.byzantine)]

    if against == "krum":
        return stateless(make_selected, ASKS_RULE, evaluations, reads_own=False)
    return stateless(make_extreme, reads_own=False)


def _largest_lambda(view: View, f: int) -> Array:
    """A bound of the lambda that Krum can select, by the paper's theorem 1 with Krum's squared distances; a scalar."""
    mean = honest_mean(view)
    _, between = honest_distances(view)
    known, n, d = view.known, num_rows(view), len(mean)
    # its n - f - 2 nearest honest rows; the first of all is the row itself
    nearest = jnp.sort(jnp.where(known[:, None] & known[None, :], between, jnp.inf), axis=1)
    place = jnp.arange(len(view.rows))
    counted = (place >= 1) & (place < n - f - 1)
    scores = jnp.where(counted & jnp.isfinite(nearest), nearest, 0).sum(axis=1)
    least = jnp.min(jnp.where(known, scores, jnp.inf))
    longest = jnp.max(jnp.where(known, jnp.linalg.norm(view.rows.astype(mean.dtype), axis=1), 0))
    bound = (jnp.sqrt(least / jnp.maximum(n - 2 * f - 1, 1)) + longest) / d**0.5
    return jnp.where(jnp.isfinite(bound), bound, 0)
