"""Sorting each column of a matrix of few rows by networks of minimum and maximum, and means of sorted values."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.kernels.blocks import Part, map_blocks
from byzax.aggregators.kernels.means import power_of_two_share
from byzax.aggregators.kernels.selection import mean_between_ranks, select_ranks

Array = jax.Array
Median = Literal["lower", "mid", "upper"]  # of an even number of values

UNROLLED = 96  # up to this many rows the network is written out: compile time grows as n log²n (0.4 s at 64 rows)
SELECTED = 4  # up to so many order statistics of more rows are found one by one, which is faster than sorting
BLOCK = 512  # columns at a time for more rows: every stage of the staged network passes over a block in the cache


def order_statistics(rows: Array, wanted: Iterable[int]) -> list[Array]:
    """Some order statistics of each column. Cost: O(n log²n d), of few of them for many rows O(n d).

    Args:
        rows: `[n, d]`; NaN counts as +inf.
        wanted: Their ranks, such as `[0, n - 1]` for minimum and maximum.

    Returns:
        One `[d]` for each rank.
    """
    n, wanted = rows.shape[0], tuple(wanted)
    if n <= UNROLLED:
        return _written_out(rows, wanted)
    if len(wanted) <= SELECTED:
        return list(select_ranks(rows, wanted))
    return list(_blockwise(rows, lambda ascending: jnp.stack([ascending[rank] for rank in wanted])))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _written_out(rows: Array, wanted: tuple[int, ...]) -> list[Array]:
    n = rows.shape[0]
    values = [_nan_last(rows[i]) for i in range(n)]
    for low, high in sorting_network(n, wanted):
        values[low], values[high] = jnp.minimum(values[low], values[high]), jnp.maximum(values[low], values[high])
    return [values[rank] for rank in wanted]


@_written_out.defjvp
def _follow_the_rows(
    wanted: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[list[Array], list[Array]]:
    """The slope of an order statistic is that of the row it came from, which needs no way back through the network.

    XLA would write that way out anew for each row: half a minute for 13 of them.
    """
    (rows,), (moved,) = primals, tangents
    order = jnp.argsort(_nan_last(rows), axis=0)
    slopes = jnp.take_along_axis(moved, order[jnp.asarray(wanted)], axis=0)
    return _written_out(rows, wanted), list(slopes)


def reduce_sorted_columns(rows: Array, reduce: Callable[[list[Array] | Array], Array]) -> Array:
    """Reduces the sorted columns of a matrix, which is never there sorted as a whole. Cost: O(n log²n d).

    Args:
        rows: `[n, d]`; NaN counts as +inf.
        reduce: Gets the ascending values as a list of n arrays `[d]`, which XLA fuses with the sorting into one pass;
            for many rows as an array `[n, width]`, some columns at a time.

    Returns:
        `[d]`.
    """
    n = rows.shape[0]
    return reduce(order_statistics(rows, range(n))) if n <= UNROLLED else _blockwise(rows, reduce)


def sort_columns(matrix: Array) -> Array:
    """Sorts each column, where a reduction would need all of it.

    By XLA's sort while that is fast, and quicker to compile than a network that is written out.

    Args:
        matrix: `[n, d]`; NaN counts as +inf.

    Returns:
        `[n, d]`, each column ascending.
    """
    return jnp.sort(matrix, axis=0) if len(matrix) <= UNROLLED else _blockwise(matrix, lambda ascending: ascending)


def median_of_sorted(values: Sequence[Array] | Array, kind: Median) -> Array:
    """The median of ascending values.

    Args:
        values: Ascending along the first axis.
        kind: Of an even number of values the `lower`, the `upper`, or the mean (`mid`) of the two middle ones.

    Returns:
        One value for each column.
    """
    low, high = (len(values) - 1) // 2, len(values) // 2
    if kind == "mid" and low < high:
        # halves first: the sum of two large values would overflow
        return 0.5 * values[low] + 0.5 * values[high]
    return values[high if kind == "upper" else low]


def mean_of_ranks(ascending: list[Array] | Array, low: Array | int, high: Array | int) -> Array:
    """The mean of `ascending[low:high]` of each column; what lies outside is never added.

    Args:
        ascending: n sorted rows of values.
        low: First rank; may be traced.
        high: Rank after the last; may be traced.

    Returns:
        `[d]`.
    """
    n = len(ascending)
    if isinstance(low, int) and isinstance(high, int):
        return _mean(ascending[low:high], high - low)
    if isinstance(ascending, list):
        kept = [(rank >= low) & (rank < high) for rank in range(n)]
        return _mean([jnp.where(keep, value, 0) for keep, value in zip(kept, ascending, strict=True)], high - low)
    ranks = jnp.arange(n)[:, None]
    return _mean(jnp.where((ranks >= low) & (ranks < high), ascending, 0), high - low)


def trimmed_mean(rows: Array, low: int, high: int) -> Array:
    """The mean of the values of each column with ranks from `low` up to `high`.

    Cost: O(n log²n d), for many rows O(n d).

    Args:
        rows: `[n, d]`; NaN counts as +inf.
        low: First rank.
        high: Rank after the last.

    Returns:
        `[d]`.
    """
    if len(rows) > UNROLLED:
        return mean_between_ranks(rows, low, high)
    return mean_of_ranks(order_statistics(rows, range(len(rows))), low, high)


def mean_of_closest(
    ascending: list[Array] | Array, dropped: int, centre: Array, size: Array | int | None = None
) -> Array:
    """The mean of all but some of the values of each column, those closest to a centre.

    Args:
        ascending: n sorted rows of values.
        dropped: Number of values that are left out.
        centre: `[d]`.
        size: Number of the values that are there, the first ones, where not all; may be traced.

    Returns:
        `[d]`. Of two values equally far from the centre the smaller is kept.
    """
    n = len(ascending)
    count = (n if size is None else size) - dropped
    # The values closest to the centre are neighbours in sorted order. The window starts after value k exactly if
    # value k + count is closer, so one comparison for each dropped value tells which are in, without a second sort.
    if isinstance(ascending, list) and isinstance(count, int):
        closer_above = [centre - ascending[k] > ascending[k + count] - centre for k in range(dropped)]
        kept = []
        for k, value in enumerate(ascending):
            conditions = [~closer_above[k]] if k < dropped else []
            conditions += [closer_above[k - count]] if k >= count else []
            for condition in conditions:
                value = jnp.where(condition, value, 0)
            kept.append(value)
        return _mean(kept, count)
    ascending = jnp.stack(ascending) if isinstance(ascending, list) else ascending
    above = lax.dynamic_slice_in_dim(ascending, count, dropped)
    start = jnp.sum(centre - ascending[:dropped] > above - centre, axis=0)
    ranks = jnp.arange(n)[:, None]
    return _mean(jnp.where((ranks >= start) & (ranks < start + count), ascending, 0), count)


def mean_around_median(rows: Array, dropped: int, kind: Median) -> Array:
    """The mean of all but some of the values of each column, those closest to its median.

    Args:
        rows: `[n, d]`; NaN counts as +inf.
        dropped: Number of values that are left out.
        kind: The median of an even number of values.

    Returns:
        `[d]`.
    """
    return reduce_sorted_columns(
        rows, lambda ascending: mean_of_closest(ascending, dropped, median_of_sorted(ascending, kind))
    )


def _mean(values: list[Array] | Array, count: Array | int) -> Array:
    """The sum of `values` over `count`, in a power of two in which it cannot overflow."""
    shrink = power_of_two_share(len(values), values[0].dtype)
    if isinstance(values, list):
        total = values[0] * shrink
        for value in values[1:]:
            total = total + value * shrink
    else:
        # a product: XLA on CPU takes many times as long to sum over the leading axis
        total = jnp.matmul(jnp.broadcast_to(shrink, len(values)), values, precision=lax.Precision.HIGHEST)
    return total / (count * shrink)


def sorting_network(n: int, wanted: Iterable[int]) -> list[tuple[int, int]]:
    """Comparators of Batcher's odd-even merge sort (AFIPS 1968), written for a power of two.

    Values beyond n stand for +inf, which no comparator moves, so theirs are left out.

    Args:
        n: Number of values.
        wanted: The ranks that are needed.

    Returns:
        Pairs (low, high), in order, that the wanted ranks depend on.
    """
    size = 1 << (n - 1).bit_length()
    comparators = []
    for merged in (1 << k for k in range(size.bit_length() - 1)):
        stride = merged
        while stride:
            for start in range(stride % merged, size - stride, 2 * stride):
                for low in range(start, min(start + stride, size - stride)):
                    high = low + stride
                    if low // (2 * merged) == high // (2 * merged) and high < n:
                        comparators.append((low, high))
            stride //= 2
    needed, kept = set(wanted), []
    for low, high in reversed(comparators):
        if low in needed or high in needed:
            needed |= {low, high}
            kept.append((low, high))
    return kept[::-1]


def _nan_last(values: Array) -> Array:
    # minimum and maximum would spread a NaN over its column
    return jnp.where(jnp.isnan(values), jnp.inf, values)


def _blockwise(rows: Array, reduce: Callable[[Array], Array]) -> Array:
    """Reduces `[n, width] -> [..., width]` the sorted columns, some at a time: compile time hardly grows with n."""
    n, d = rows.shape
    width = min(BLOCK, d)
    padding = jnp.full(((1 << (n - 1).bit_length()) - n, width), jnp.inf, rows.dtype)

    def reduce_block(part: Part) -> Array:
        return reduce(bitonic_sort(jnp.concatenate([_nan_last(part(rows)), padding]))[:n])

    return map_blocks(d, width, reduce_block)


def bitonic_sort(rows: Array) -> Array:
    """Sorts each column by a bitonic network; each merge starts with a mirrored comparison.

    Args:
        rows: `[n, d]`, n a power of two.

    Returns:
        `[n, d]`, each column ascending.
    """
    n, d = rows.shape
    merged = 2
    while merged <= n:
        pairs = rows.reshape(n // merged, 2, merged // 2, d)
        first, second = pairs[:, 0], pairs[:, 1, ::-1]
        rows = jnp.stack([jnp.minimum(first, second), jnp.maximum(first, second)], axis=1).reshape(n, d)
        stride = merged // 4
        while stride:
            pairs = rows.reshape(n // (2 * stride), 2, stride, d)
            first, second = pairs[:, 0], pairs[:, 1]
            rows = jnp.stack([jnp.minimum(first, second), jnp.maximum(first, second)], axis=1).reshape(n, d)
            stride //= 2
        merged *= 2
    return rows
