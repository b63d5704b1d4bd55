"""Rows shortened to a norm as seen from a point, whatever their size: to 1 from 1e30 as well."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.kernels.blocks import Part, block_width, map_blocks
from byzax.aggregators.kernels.distances import exponents, half_difference, largest_entries, power_of_two, safe_squares
from byzax.aggregators.kernels.means import UNROLLED

Array = jax.Array


class Lengths(NamedTuple):
    """Norms of the halves of n differences, each in a power of two of its own, so that none overflows or vanishes.

    Attributes:
        fraction: `[n]`, the norm is `fraction` 2^`exponent`; 0 for rows that are not finite.
        exponent: `[n]`.
        finite: `[n]`, rows without NaN and infinity.
    """

    fraction: Array
    exponent: Array
    finite: Array


def measure_lengths(rows: Array, origin: Array) -> Lengths:
    """Distances of rows from a point. Cost: O(n d).

    Args:
        rows: `[n, d]`.
        origin: `[d]`.

    Returns:
        The lengths of the n differences.
    """
    n, _ = rows.shape

    def one_by_one(rows: Array, origin: Array, _: Array) -> Lengths:
        radius = largest_entries(rows, lambda row: half_difference(row, origin))
        finite = jnp.isfinite(radius)
        # not the largest power: XLA may multiply its inverse by one half first, and what is below a float becomes 0
        exponent = jnp.minimum(exponents(jnp.where(finite, radius, 0)), -jnp.finfo(rows.dtype).minexp - 6)
        scaled = half_difference(rows, origin) * power_of_two(-exponent, rows.dtype)[:, None]
        fraction = jnp.sqrt(jnp.sum(scaled * scaled, axis=1))
        return Lengths(jnp.where(finite, fraction, 0), exponent, finite)

    def as_they_are(rows: Array, origin: Array, squared: Array) -> Lengths:
        return Lengths(jnp.sqrt(squared), jnp.zeros_like(exponents(squared)), jnp.ones(n, bool))

    squared, safe = safe_squares(rows, origin)
    return lax.cond(safe, as_they_are, one_by_one, rows, origin, squared)


def joined_lengths(fraction: Array, exponent: Array) -> Lengths:
    """The lengths of differences from those of their slices.

    Args:
        fraction: `[S, n]`, the fractions for each slice, +inf where not finite.
        exponent: `[S, n]`, the exponents, floating-point.

    Returns:
        The lengths of the n differences.
    """
    finite = jnp.isfinite(fraction).all(axis=0)
    fraction = jnp.where(finite, fraction, 0)
    own = jnp.where(fraction > 0, exponents(fraction), -jnp.iinfo(jnp.int32).max // 4) + exponent.astype(jnp.int32)
    limits = jnp.finfo(fraction.dtype)
    # see `measure_lengths`
    longest = jnp.where(fraction.any(axis=0), jnp.clip(own.max(axis=0), limits.minexp, -limits.minexp - 6), 0)
    scaled = fraction * power_of_two(exponent.astype(jnp.int32) - longest, fraction.dtype)
    return Lengths(jnp.sqrt((scaled**2).sum(axis=0)), longest, finite)


def norms(rows: Array) -> Array:
    """Euclidean norms of rows.

    Args:
        rows: `[n, d]`.

    Returns:
        `[n]`; +inf for a row that is not finite, or longer than any number of its type.
    """
    return whole_norms(measure_lengths(rows, jnp.zeros_like(rows[0])))


def whole_norms(lengths: Lengths) -> Array:
    """The norms.

    Args:
        lengths: The lengths of n rows.

    Returns:
        `[n]`; +inf where not finite, or longer than any number of its type.
    """
    dtype = lengths.fraction.dtype
    return jnp.where(lengths.finite, 2 * lengths.fraction * power_of_two(lengths.exponent, dtype), jnp.inf)


def half_norms(lengths: Lengths) -> Array:
    """Halves of the norms.

    Args:
        lengths: The lengths of n rows.

    Returns:
        `[n]`, the largest number of the type where they are beyond it; +inf where not finite.
    """
    dtype = lengths.fraction.dtype
    halves = jnp.minimum(lengths.fraction * power_of_two(lengths.exponent, dtype), jnp.finfo(dtype).max)
    return jnp.where(lengths.finite, halves, jnp.inf)


def directions(rows: Array, lengths: Lengths) -> Array:
    """Rows brought to length 1.

    Args:
        rows: `[n, d]`.
        lengths: Their lengths from the origin.

    Returns:
        `[n, d]`; 0 where a row is 0 or not finite.
    """
    usable = lengths.finite & (lengths.fraction > 0)
    scaled = 0.5 * rows * power_of_two(-lengths.exponent, rows.dtype)[:, None]
    return jnp.where(usable[:, None], scaled / jnp.where(usable, lengths.fraction, 1)[:, None], 0)


def half_median_norm(lengths: Lengths) -> Array:
    """Half the median of the norms, of which those that are not finite are the largest.

    Args:
        lengths: The lengths of n rows.

    Returns:
        `[]`; the mean of the two middle ones for an even n, +inf if one of them is.
    """
    dtype, n = lengths.fraction.dtype, len(lengths.fraction)
    # in the power of two of the middle one only what is far from it overflows or vanishes
    positive = lengths.finite & (lengths.fraction > 0)
    own = lengths.exponent + exponents(lengths.fraction)
    ascending = jnp.sort(jnp.where(positive, own, jnp.iinfo(own.dtype).max))
    unit = jnp.where(positive.any(), ascending[jnp.maximum(jnp.sum(positive) - 1, 0) // 2], 0)
    sizes = jnp.where(lengths.finite, lengths.fraction * power_of_two(lengths.exponent - unit, dtype), jnp.inf)
    ascending = jnp.sort(sizes)
    return (0.5 * ascending[(n - 1) // 2] + 0.5 * ascending[n // 2]) * power_of_two(unit, dtype)


def clipping_factors(lengths: Lengths, bound: Array) -> tuple[Array, Array, Array]:
    """The factors that shorten differences to a bound.

    There are two, since a row at 1e30 is divided by its power of two first and by the rest then: their product would
    vanish.

    Args:
        lengths: The lengths of n differences.
        bound: `[]`, half the largest length.

    Returns:
        Which lengths are above twice the bound, and the two factors, one after the other, each `[n]`.
    """
    shrink = power_of_two(-lengths.exponent, lengths.fraction.dtype)
    longer = lengths.fraction > bound * shrink
    return longer, jnp.where(longer, shrink, 1), jnp.where(longer, bound / jnp.where(longer, lengths.fraction, 1), 1)


def shorten(rows: Array, lengths: Lengths, bound: Array) -> Array:
    """Shortens rows to a bound.

    Args:
        rows: `[n, d]`.
        lengths: Their lengths from the origin.
        bound: `[]`, half the largest length.

    Returns:
        `[n, d]`, no row longer than twice the bound; 0 where not finite.
    """
    longer, first, second = clipping_factors(lengths, bound)
    clipped = 0.5 * rows * first[:, None] * (2 * second)[:, None]
    return jnp.where(lengths.finite[:, None], jnp.where(longer[:, None], clipped, rows), 0)


def clipped_mean(rows: Array, origin: Array, lengths: Lengths, bound: Array, chosen: Array | None = None) -> Array:
    """A point plus the mean of the n differences to it, each shortened to twice the bound where it is longer.

    Cost: O(n d).

    Rows that are not finite have no direction and count as 0.

    Args:
        rows: `[n, d]`.
        origin: `[d]`, the point.
        lengths: Lengths of the differences.
        bound: `[]`, half the largest length.
        chosen: `[n]`, the rows to take the mean of, where not all.

    Returns:
        `[d]`.
    """
    n, _ = rows.shape
    counted = lengths.finite if chosen is None else lengths.finite & chosen
    total, share = clipped_sum(rows, origin, lengths, bound, counted)
    count = n if chosen is None else jnp.maximum(jnp.sum(chosen), 1)
    return origin + 2 * (total / (count * share))


def clipped_weighted_mean(
    rows: Array, origin: Array, lengths: Lengths, bound: Array, counted: Array
) -> tuple[Array, Array]:
    """The mean of some rows, weighted by 1, or by 2 `bound` / |x - origin| where a row is farther than that.

    Cost: O(n d).

    Args:
        rows: `[n, d]`.
        origin: `[d]`.
        lengths: Lengths of the differences to it.
        bound: `[]`, half the largest length of full weight; one counted row at least must be no farther than twice the
            bound, so that the weights do not vanish.
        counted: `[n]`, the rows that count.

    Returns:
        The mean `[d]` and the weights `[n]`, which sum to 1; the origin and zeros where none counts.
    """
    total, share = clipped_sum(rows, origin, lengths, bound, counted)
    _, first, second = clipping_factors(lengths, bound)
    weights = jnp.where(counted, first * second, 0)
    whole = jnp.maximum(jnp.sum(weights), jnp.finfo(rows.dtype).tiny)
    return origin + 2 * (total / (whole * share)), weights / whole


def clipped_sum(rows: Array, origin: Array, lengths: Lengths, bound: Array, counted: Array) -> tuple[Array, float]:
    """Half the sum of the counted differences, shortened to twice the bound, in a scale in which no sum overflows.

    Args:
        rows: `[n, d]`.
        origin: `[d]`.
        lengths: Lengths of the differences to it.
        bound: `[]`, half the largest length.
        counted: `[n]`, the rows that count.

    Returns:
        The half sum `[d]` times a scale, and the scale, which is no larger than 1/n.
    """
    n, _ = rows.shape
    _, first, second = clipping_factors(lengths, bound)
    share = 0.5 ** (n - 1).bit_length()

    if n <= UNROLLED:
        total = jnp.zeros_like(origin)
        for i in range(n):
            clipped = half_difference(rows[i], origin) * first[i] * (share * second[i])
            total = total + jnp.where(counted[i], clipped, 0)
    else:

        def weighted(part: Part) -> Array:
            halves = jnp.where(counted[:, None], half_difference(part(rows), part(origin)) * first[:, None], 0)
            return jnp.matmul(share * second, halves, precision=lax.Precision.HIGHEST)

        total = map_blocks(rows.shape[1], block_width(rows), weighted)
    return total, share
