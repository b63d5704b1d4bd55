"""Rows shortened to a norm as seen from a point, whatever their size: to 1 from 1e30 as well."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.kernels.blocks import Part, assembled, width_for
from byzax.aggregators.kernels.distances import exponents, halved, longest, power, safe_squares
from byzax.aggregators.kernels.means import UNROLLED

Array = jax.Array


class Lengths(NamedTuple):
    """Norms of the halves of n differences, each in a power of two of its own: `fraction` 2^`exponent`, `[n]`.

    Thus neither overflows nor vanishes. `finite` `[n]`: rows without NaN and infinity; the fraction of others is 0.
    """

    fraction: Array
    exponent: Array
    finite: Array


def lengths(rows: Array, origin: Array) -> Lengths:
    """Distances of `rows` `[n, d]` from `origin` `[d]`. Cost: O(n d)."""
    n, _ = rows.shape

    def one_by_one(rows: Array, origin: Array, _: Array) -> Lengths:
        radius = longest(rows, lambda columns, part: halved(columns, part(origin)))
        finite = jnp.isfinite(radius)
        # Not the largest power: XLA may multiply its inverse by one half first, and what is below a float becomes 0.
        exponent = jnp.minimum(exponents(jnp.where(finite, radius, 0)), -jnp.finfo(rows.dtype).minexp - 6)
        scaled = halved(rows, origin) * power(-exponent, rows.dtype)[:, None]
        fraction = jnp.sqrt(jnp.sum(scaled * scaled, axis=1))
        return Lengths(jnp.where(finite, fraction, 0), exponent, finite)

    def as_they_are(rows: Array, origin: Array, squared: Array) -> Lengths:
        return Lengths(jnp.sqrt(squared), jnp.zeros_like(exponents(squared)), jnp.ones(n, bool))

    squared, safe = safe_squares(rows, origin)
    return lax.cond(safe, as_they_are, one_by_one, rows, origin, squared)


def norms(rows: Array) -> Array:
    """`[n]` lengths of `rows` `[n, d]`; +inf for a row that is not finite, or longer than any number of its type."""
    found = lengths(rows, jnp.zeros_like(rows[0]))
    return jnp.where(found.finite, 2 * found.fraction * power(found.exponent, rows.dtype), jnp.inf)


def half_norms(found: Lengths) -> Array:
    """`[n]`: halves of the norms, the largest number of the type where they are beyond it; +inf where not finite."""
    dtype = found.fraction.dtype
    halves = jnp.minimum(found.fraction * power(found.exponent, dtype), jnp.finfo(dtype).max)
    return jnp.where(found.finite, halves, jnp.inf)


def directions(rows: Array, found: Lengths) -> Array:
    """`rows` `[n, d]` of these lengths from the origin, each brought to length 1; 0 where a row is 0 or not finite."""
    usable = found.finite & (found.fraction > 0)
    scaled = 0.5 * rows * power(-found.exponent, rows.dtype)[:, None]
    return jnp.where(usable[:, None], scaled / jnp.where(usable, found.fraction, 1)[:, None], 0)


def median_length(found: Lengths) -> Array:
    """Half the median of the norms, of which those that are not finite are the largest; +inf if it is one of them."""
    dtype, n = found.fraction.dtype, len(found.fraction)
    # In the power of two of the middle one only what is far from it overflows or vanishes.
    positive = found.finite & (found.fraction > 0)
    own = found.exponent + exponents(found.fraction)
    ascending = jnp.sort(jnp.where(positive, own, jnp.iinfo(own.dtype).max))
    unit = jnp.where(positive.any(), ascending[jnp.maximum(jnp.sum(positive) - 1, 0) // 2], 0)
    sizes = jnp.where(found.finite, found.fraction * power(found.exponent - unit, dtype), jnp.inf)
    ascending = jnp.sort(sizes)
    return (0.5 * ascending[(n - 1) // 2] + 0.5 * ascending[n // 2]) * power(unit, dtype)


def factors(found: Lengths, bound: Array) -> tuple[Array, Array, Array]:
    """Which lengths are above twice the `bound`, and the two factors, one after the other, that bring them there.

    A row at 1e30 is divided by its power of two first and by the rest then: their product would vanish.
    """
    shrink = power(-found.exponent, found.fraction.dtype)
    longer = found.fraction > bound * shrink
    return longer, jnp.where(longer, shrink, 1), jnp.where(longer, bound / jnp.where(longer, found.fraction, 1), 1)


def shortened(rows: Array, found: Lengths, bound: Array) -> Array:
    """`rows` `[n, d]` of these lengths from the origin, none longer than twice the `bound`; 0 where not finite."""
    longer, first, second = factors(found, bound)
    clipped = 0.5 * rows * first[:, None] * (2 * second)[:, None]
    return jnp.where(found.finite[:, None], jnp.where(longer[:, None], clipped, rows), 0)


def clipped_mean(rows: Array, origin: Array, found: Lengths, bound: Array, chosen: Array | None = None) -> Array:
    """`origin` plus the mean of the n differences to it, each shortened to twice the `bound` where it is longer.

    Rows that are not finite have no direction and count as 0. `chosen` `[n]`: the rows to take the mean of, where not
    all. Cost: O(n d).
    """
    n, _ = rows.shape
    counted = found.finite if chosen is None else found.finite & chosen
    total, share = clipped_sum(rows, origin, found, bound, counted)
    count = n if chosen is None else jnp.maximum(jnp.sum(chosen), 1)
    return origin + 2 * (total / (count * share))


def clipped_pull(rows: Array, origin: Array, found: Lengths, bound: Array, counted: Array) -> tuple[Array, Array]:
    """The mean of the `counted` rows, weighted by 1, or by 2 `bound` / |x - origin| where a row is farther than that.

    Gives it and the weights `[n]`, which sum to 1; the origin and zeros where none counts. One counted row at least
    must be no farther than twice the bound, so that the weights do not vanish. Cost: O(n d).
    """
    total, share = clipped_sum(rows, origin, found, bound, counted)
    _, first, second = factors(found, bound)
    weights = jnp.where(counted, first * second, 0)
    whole = jnp.maximum(jnp.sum(weights), jnp.finfo(rows.dtype).tiny)
    return origin + 2 * (total / (whole * share)), weights / whole


def clipped_sum(rows: Array, origin: Array, found: Lengths, bound: Array, counted: Array) -> tuple[Array, float]:
    """Half the sum of the `counted` differences to the origin, shortened to twice the `bound`, times a number `[]`.

    Gives it and the number, which is no larger than 1/n, so that no sum overflows.
    """
    n, _ = rows.shape
    _, first, second = factors(found, bound)
    share = 0.5 ** (n - 1).bit_length()

    if n <= UNROLLED:
        total = jnp.zeros_like(origin)
        for i in range(n):
            clipped = halved(rows[i], origin) * first[i] * (share * second[i])
            total = total + jnp.where(counted[i], clipped, 0)
    else:

        def weighted(part: Part) -> Array:
            halves = jnp.where(counted[:, None], halved(part(rows), part(origin)) * first[:, None], 0)
            return jnp.matmul(share * second, halves, precision=lax.Precision.HIGHEST)

        total = assembled(rows.shape[1], width_for(rows), weighted)
    return total, share
