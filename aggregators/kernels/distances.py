"""Squared distances between rows, and the sums of the smallest of them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.kernels.blocks import Part, fold_blocks
from byzax.aggregators.kernels.columns import sort_columns

Array = jax.Array

BLOCK = 2048  # columns at a time: the rows of a block stay in the cache, and their sums keep their digits
SAMPLED = 2**16  # entries looked at to find a row in the middle, of so many rows at most
CANDIDATES = 64
RELIABLE = 1 / 4  # share of |x|² + |y|² that |x|² + |y|² - 2xy must be to have lost no more than two bits

FEW = 5 / 8  # share of the rows up to which single ones are multiplied: 0.4 of the work of all


class Distances(NamedTuple):
    """Between n rows, in a unit of their own, so that they neither overflow nor vanish.

    Attributes:
        squared: `[n, n]`, symmetric, 0 between equal rows; times `unit`² it is the squared distance. +inf from and to a
            row that is not finite, or beyond the range of the type in this unit.
        finite: `[n]`, rows without NaN and infinity.
        unit: `[]`.
    """

    squared: Array
    finite: Array
    unit: Array


class PairwiseState(NamedTuple):
    """The state of `pairwise_distances`.

    Attributes:
        squared: `[..., n, n]`, what is made of the squared distances so far.
        pending: `[n, n]`, the pairs that have lost digits and are to be seen from closer.
        twin: `[n]`, a row known as equal to each.
        rounds: Number of products so far.
    """

    squared: Array
    pending: Array
    twin: Array
    rounds: Array


def pairwise_distances(rows: Array) -> Distances:
    """The distances between rows, wherever the rows lie.

    In float32 the relative error is about 1e-6, at worst about 4e-5 where all coordinates are the same number.

    One product of the rows with themselves gives all of them, |x|² + |y|² - 2xy, where x and y are seen from a row in
    their middle. What is then much smaller than |x|² + |y|² has lost its digits: such pairs are seen again from one of
    their own, until none is left; every time at least one row is done. Every row is measured in a power of two of its
    own, so that neither 1e30 nor 1e-30 leaves the range of a square. Cost: O(n² d) time, up to n/2 times that for rows
    in a chain, each much closer to the next; O(n²) memory beside the rows.

    Args:
        rows: `[n, d]`, float32 or float64.

    Returns:
        The squared distances.
    """
    squared, finite, radius = _measure_pairs(rows, _squares_in_unit)
    squared = jnp.where(finite[:, None] & finite[None, :], squared, jnp.inf)
    return Distances(squared, finite, 2 * power_of_two(exponents(typical_size(radius, finite)), rows.dtype))


def slice_distances(rows: Array) -> tuple[Array, Array, Array]:
    """The distances between slices of rows, each pair in a power of two of its own: a unit would not fit other slices.

    Args:
        rows: `[n, w]`.

    Returns:
        The squares of half the distances `[n, n]`, each divided by 2 to twice its exponent, 0 where a row is not
        finite; the exponents `[n, n]`, whole numbers in the type of the rows; and the largest half difference of each
        row from one in the middle `[n]`, +inf for a row that is not finite.
    """

    def with_exponent(squared: Array, exponent: Array, unit: Array) -> Array:
        return jnp.stack([squared, exponent.astype(rows.dtype)])

    (squared, exponent), finite, radius = _measure_pairs(rows, with_exponent)
    squared = jnp.where(finite[:, None] & finite[None, :], squared, 0)
    return squared, exponent, jnp.where(finite, radius, jnp.inf)


def joined_distances(squared: Array, exponent: Array, radius: Array) -> Distances:
    """The distances between rows from those between their slices.

    Args:
        squared: `[S, n, n]`, as `slice_distances` gives them for each slice.
        exponent: `[S, n, n]`, likewise.
        radius: `[S, n]`, likewise.

    Returns:
        The squared distances.
    """
    radius = radius.max(axis=0)
    finite = jnp.isfinite(radius)
    unit = exponents(typical_size(radius, finite))
    total = _squares_in_unit(squared, exponent.astype(unit.dtype), unit).sum(axis=0)
    total = jnp.where(finite[:, None] & finite[None, :], total, jnp.inf)
    return Distances(total, finite, 2 * power_of_two(unit, squared.dtype))


def _squares_in_unit(squared: Array, exponent: Array, unit: Array) -> Array:
    into_unit = power_of_two(exponent - unit, squared.dtype)
    return squared * into_unit * into_unit


def _measure_pairs(rows: Array, into: Callable[[Array, Array, Array], Array]) -> tuple[Array, Array, Array]:
    """A function of the squared distances, right wherever the rows lie. See `pairwise_distances`.

    Args:
        rows: `[n, d]`.
        into: Makes it of squared halves of differences `[n, n]`, each divided by 2 to twice its exponent `[n, n]`, and
            the exponent of a usual size.

    Returns:
        It `[..., n, n]`, symmetric, 0 between equal rows; the rows of finite numbers `[n]`; and the largest half
        difference of each from a row in the middle `[n]`, 0 where not finite.
    """
    n, d = rows.shape
    width = d if d <= 2 * BLOCK else BLOCK
    index = jnp.arange(n)
    few = max(1, round(FEW * n))
    itself = jnp.eye(n, dtype=bool)

    def radius_of(place: Array, leader: Array) -> Array:
        return largest_entry(half_difference(rows[place], _with_finite(rows[leader])))

    def radii(leader: Array) -> Array:
        """Of rows that are no leaders of their own: most are, when single pairs are seen from closer."""
        return lax.map(
            lambda pair: lax.cond(pair[0] == pair[1], lambda *_: jnp.zeros((), rows.dtype), radius_of, *pair),
            (index, leader),
        )

    def products(leader: Array, radius: Array, seen: Array | None = None) -> Array:
        """The products of rows as seen from their leaders.

        Args:
            leader: `[]` or `[n]`, a row for each.
            radius: `[n]`, the largest half difference from it.
            seen: `[m]`, rows whose products are wanted, all by default.

        Returns:
            `[n, n]`, 0 for other rows.
        """
        of = slice(None) if seen is None else seen
        leaders = leader if seen is None else leader[seen]
        factor = power_of_two(-exponents(radius[of]), rows.dtype)[:, None]
        count = n if seen is None else len(seen)

        def add(part: Part, new: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
            total, lost = sums
            columns = part(rows)
            difference = half_difference(columns[of], _with_finite(columns[leaders]))
            halves = jnp.where(finite[of, None] & new, difference * factor, 0)
            term = jnp.matmul(halves, halves.T, precision=lax.Precision.HIGHEST) - lost
            # Kahan: what a sum rounds away is taken from the next term, however many blocks there are
            return total + term, ((total + term) - total) - term

        none = jnp.zeros((count, count), rows.dtype)
        total, _ = fold_blocks(d, width, add, (none, none))
        total = jnp.where(index[:count, None] < index[None, :count], total, total.T)  # else not quite symmetric
        return total if seen is None else no_products.at[seen[:, None], seen].set(total)

    def close(pairs: PairwiseState, leader: Array, radius: Array, product: Array) -> PairwiseState:
        """Row i is seen from row leader[i]; the product is of halves, each row in a power of two of its own."""
        exponent = exponents(radius)
        # each pair in the power of two of its longer row
        longer = jnp.maximum(exponent[:, None], exponent[None, :])
        shrink = power_of_two(exponent[:, None] - longer, rows.dtype)
        lengths = jnp.diagonal(product)[:, None] * shrink**2
        lengths = lengths + lengths.T
        squared = jnp.maximum(lengths - 2 * product * shrink * shrink.T, 0)
        together = pairs.pending & (leader == leader[..., None])
        return PairwiseState(
            squared=jnp.where(together, into(squared, longer, unit), pairs.squared),
            pending=pairs.pending & ~(together & (squared >= RELIABLE * lengths)),
            twin=jnp.where((radius == 0) & finite[leader] & (leader != index), leader, pairs.twin),
            rounds=pairs.rounds + 1,
        )

    def look_closer(pairs: PairwiseState) -> PairwiseState:
        # the row with most pending pairs among those that a row has some with: it is in the middle of a cluster
        degree = jnp.sum(pairs.pending, axis=1)
        leader = jnp.argmax(jnp.where(pairs.pending | itself, degree, -1), axis=1).astype(index.dtype)
        radius = jnp.where(finite, radii(leader), 0)
        # rows that are equal to their leader are seen without a product
        different = (radius[:, None] > 0) | (radius[None, :] > 0)
        seen = jnp.any(pairs.pending & (leader == leader[:, None]) & different, axis=1)
        # a cluster of Byzantine rows has fewer than half of all: with some others the products of these alone will do
        product = lax.switch(
            jnp.where(jnp.any(seen), 1 + (jnp.sum(seen) > few), 0),
            (lambda *_: no_products, products, lambda leader, radius, _: products(leader, radius)),
            leader,
            radius,
            jnp.argsort(~seen, stable=True)[:few],
        )
        return close(pairs, leader, radius, product)

    # at first one leader for all, as a number: a slice is faster than looking up a leader for each
    middle = middle_row(rows)
    centre = _with_finite(rows[middle])
    radius = largest_entries(rows, lambda row: half_difference(row, centre))
    finite = jnp.isfinite(radius)
    first_radius = radius = jnp.where(finite, radius, 0)
    unit = exponents(typical_size(radius, finite))
    no_products = jnp.zeros((n, n), rows.dtype)
    nothing = jax.eval_shape(into, no_products, jnp.zeros((n, n), unit.dtype), unit)
    begun = jnp.zeros(nothing.shape, nothing.dtype)
    pairs = PairwiseState(begun, finite[:, None] & finite[None, :] & ~itself, index, jnp.asarray(0))
    pairs = close(pairs, middle, radius, products(middle, radius))
    pairs = lax.while_loop(lambda pairs: pairs.pending.any() & (pairs.rounds <= n), look_closer, pairs)
    # equal rows are equally far from all others, to the last bit
    squared = pairs.squared[..., pairs.twin[:, None], pairs.twin[None, :]]
    return jnp.where(itself, 0, squared), finite, first_radius


def _with_finite(values: Array) -> Array:
    return jnp.where(jnp.isfinite(values), values, 0)


def half_difference(one: Array, other: Array) -> Array:
    """Half the difference of two arrays, which never overflows."""
    return 0.5 * one - 0.5 * other


def largest_entries(rows: Array, transform: Callable[[Array], Array] = lambda row: row) -> Array:
    """The largest absolute value in each row.

    Args:
        rows: `[n, d]`.
        transform: `transform(row)` gives the values `[d]` to look at.

    Returns:
        `[n]`, +inf where an entry is not a number.
    """
    # one row after the other: XLA on CPU would write all of what a maximum over several is taken of
    return lax.map(lambda row: largest_entry(transform(row)), rows)


def largest_entry(values: Array) -> Array:
    """The largest absolute value `[]` of `[d]`, +inf where one is not a number."""
    # XLA's maximum on CPU drops a NaN where it is vectorised (openxla/xla issue 21461)
    return jnp.max(jnp.where(jnp.isnan(values), jnp.inf, jnp.abs(values)))


def middle_row(rows: Array) -> Array:
    """A row in the middle: its median distance to the others is small, in mean difference on a sample of columns.

    Any row would do for the result of `pairwise_distances`; one that is far away costs it another product.

    Args:
        rows: `[n, d]`.

    Returns:
        Its index.
    """
    n, d = rows.shape
    candidates = jnp.arange(0, n, -(-n // CANDIDATES))
    sample = rows[:, :: -(-d // max(32, min(1024, SAMPLED // n)))]
    sample = jnp.nan_to_num(sample, nan=jnp.finfo(rows.dtype).max) * (0.5 / sample.shape[1])
    # a mean: the largest difference is that of one column, where gradients differ in size by orders of magnitude
    apart = jnp.sum(jnp.abs(sample[candidates][:, None, :] - sample[None, :, :]), axis=2)
    typical = jnp.sort(apart, axis=1)[:, n // 2]
    return candidates[jnp.argmin(typical)]


def squared_distances_to(rows: Array, point: Array, itself: int | None = None) -> Array:
    """Squared distances of rows to a point, in a unit of their own.

    Args:
        rows: `[n, d]`.
        point: `[d]`.
        itself: Index of a row that is known to be the point, which saves a look at it.

    Returns:
        `[n]`, +inf where not finite.
    """

    def in_a_unit(rows: Array, point: Array, _: Array) -> Array:
        radius = largest_entries(rows, lambda row: half_difference(row, point))
        unit = exponents(typical_size(radius, jnp.isfinite(radius)))
        scaled = half_difference(rows, point) * power_of_two(-unit, rows.dtype)
        total = jnp.sum(scaled * scaled, axis=1)
        return jnp.where(jnp.isnan(total), jnp.inf, total)

    squared, safe = safe_squares(rows, point, itself)
    return lax.cond(safe, lambda *known: known[2], in_a_unit, rows, point, squared)


def safe_squares(rows: Array, point: Array, itself: int | None = None) -> tuple[Array, Array]:
    """Sums of the squares of half the differences to a point, where size and NaN do no harm.

    One pass over the rows, a third of the time of what is needed where one of them is out of the common.

    Args:
        rows: `[n, d]`.
        point: `[d]`.
        itself: Index of a row that is known to be the point.

    Returns:
        The sums `[n]`, and whether all of them are right `[]`.
    """
    halves = half_difference(rows, point)
    squared = jnp.sum(halves * halves, axis=1)
    known = jnp.zeros(len(rows), bool) if itself is None else jnp.zeros(len(rows), bool).at[itself].set(True)
    # 0 may be a square that vanished
    nothing = lax.cond(
        jnp.any((squared == 0) & ~known),
        lambda rows, point: largest_entries(rows, lambda row: half_difference(row, point)) == 0,
        lambda *_: known,
        rows,
        point,
    )
    least = jnp.finfo(rows.dtype).tiny / jnp.finfo(rows.dtype).eps ** 2
    return squared, jnp.all(jnp.isfinite(squared) & ((squared >= least) | nothing))


def typical_size(sizes: Array, finite: Array) -> Array:
    """The median of the finite sizes; where that is 0, the smallest other one: larger ones may overflow.

    Args:
        sizes: `[n]`.
        finite: `[n]`.

    Returns:
        `[]`.
    """
    ascending = jnp.sort(jnp.where(finite, sizes, jnp.inf))
    last, zeros = jnp.maximum(jnp.sum(finite) - 1, 0), jnp.sum(finite & (sizes == 0))
    return ascending[jnp.clip(zeros, last // 2, last)]


def exponents(sizes: Array) -> Array:
    """The power of two above each of the finite `sizes`, held where it and its inverse are floats."""
    limits = jnp.finfo(sizes.dtype)
    whole = jnp.int64 if limits.bits == 64 else jnp.int32
    biased = lax.bitcast_convert_type(sizes, whole) >> limits.nmant
    return jnp.clip(biased + limits.minexp, limits.minexp, -limits.minexp)


def power_of_two(exponent: Array, dtype: jnp.dtype) -> Array:
    """2 to this whole number, held where it and its inverse are floats."""
    limits = jnp.finfo(dtype)
    whole = jnp.int64 if limits.bits == 64 else jnp.int32
    biased = jnp.clip(exponent, limits.minexp, -limits.minexp).astype(whole) + (1 - limits.minexp)
    return lax.bitcast_convert_type(biased << limits.nmant, dtype)


class Sums(NamedTuple):
    """Sums of distances, in order as if all infinite distances were one and the same large number.

    Attributes:
        infinite: `[n]`, how many of the summands are infinite.
        finite: `[n]`, the sum of the others.
    """

    infinite: Array
    finite: Array


def build_sums_of_nearest(distances: Array) -> Callable[[Array, Array | int], Sums]:
    """Sums of the smallest of each row of distances, over any sub-pool.

    Args:
        distances: `[n, n]`, symmetric.

    Returns:
        A function of the rows `alive` `[n]` and a `count`, O(n² log²n): for each row the sum of its `count` smallest
        distances to other rows that are alive, where there are so many.
    """
    n = len(distances)
    others = jnp.where(jnp.eye(n, dtype=bool), jnp.inf, distances)

    def sums(alive: Array, count: Array | int) -> Sums:
        ascending = sort_columns(jnp.where(alive[:, None], others, jnp.inf))
        return _summed(jnp.where(jnp.arange(n)[:, None] < count, ascending, 0), axis=0)

    return sums


def _summed(distances: Array, axis: int) -> Sums:
    infinite = jnp.isinf(distances)
    return Sums(jnp.sum(infinite, axis), jnp.sum(jnp.where(infinite, 0, distances), axis))


class SortedNeighbours(NamedTuple):
    """The distances of each of n rows to the others, from near to far, while rows leave one by one.

    Attributes:
        values: `[n, n]`, ascending along a row; 0 for the row itself and those that left.
        there: `[n, n]`, false for these.
        rank: `[n, n]`, the place of each row.
        last: `[n]`, up to this place are as many as are summed.
        summed: `[]`, how many.
    """

    values: Array
    there: Array
    rank: Array
    last: Array
    summed: Array


def sort_neighbours(distances: Array, count: Array | int) -> SortedNeighbours:
    """Sorts each row of distances. Cost: O(n² log n).

    Args:
        distances: `[n, n]`.
        count: Number of smallest distances to others that are to be summed.

    Returns:
        The sorted distances.
    """
    n = distances.shape[0]
    itself = jnp.eye(n, dtype=bool)
    others = jnp.where(itself, jnp.inf, distances)
    order = jnp.argsort(others, axis=1, stable=True)
    there = ~jnp.take_along_axis(itself, order, axis=1)
    values = jnp.where(there, jnp.take_along_axis(others, order, axis=1), 0)
    last = jnp.argmax(jnp.cumsum(there, axis=1) == count, axis=1)
    # a permutation turned round by writing it: a sort takes many times as long
    rank = jnp.zeros((n, n), order.dtype).at[jnp.arange(n)[:, None], order].set(jnp.arange(n))
    return SortedNeighbours(values, there, rank, last, jnp.asarray(count))


def neighbour_sums(near: SortedNeighbours) -> Sums:
    """For each row the sum of its smallest distances. Nothing is subtracted, and no digit is lost.

    Args:
        near: The sorted distances.

    Returns:
        The n sums.
    """
    return _summed(jnp.where(jnp.arange(len(near.last)) <= near.last[:, None], near.values, 0), axis=1)


def remove_row(near: SortedNeighbours, row: Array, count: Array) -> SortedNeighbours:
    """The sorted distances after a row has left. Cost: O(n²), and cheaper than to sort or count anew.

    Args:
        near: The sorted distances.
        row: Index of the row.
        count: Number of distances that are to be summed, as before or one less.

    Returns:
        The sorted distances between the others.
    """
    n = len(near.last)
    places, each = jnp.arange(n), jnp.arange(n)
    gone = near.rank[:, row]
    there = near.there.at[each, gone].set(False)
    values = near.values.at[each, gone].set(0)
    counted = near.summed - (gone <= near.last)
    within = places <= near.last[:, None]
    # one too many: up to before the last that is there; one too few: up to the next that is
    before = jnp.max(jnp.where(there & within, places, -1), axis=1) - 1
    after = jnp.min(jnp.where(there & ~within, places, n), axis=1)
    last = jnp.where(counted > count, before, jnp.where(counted < count, after, near.last))
    return SortedNeighbours(values, there, near.rank, last, count)
