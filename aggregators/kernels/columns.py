"""Sorting each column of a matrix of few rows, without a comparison sort: networks of minimum and maximum."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.kernels.blocks import Part, assembled
from byzax.aggregators.kernels.means import power_of_share

Array = jax.Array
Median = Literal["lower", "mid", "upper"]  # of an even number of values

UNROLLED = 96  # up to this many rows the network is written out: compile time grows as n log²n (0.4 s at 64 rows)
BLOCK = 512  # columns at a time for more rows: every stage of the staged network passes over a block in the cache


def sorted_rows(rows: Array, wanted: Iterable[int]) -> list[Array]:
    """The `wanted` order statistics of each column of `rows` `[n, d]`, each `[d]`; NaN counts as +inf.

    `sorted_rows(rows, [0, n - 1])` is the minimum and the maximum. Cost: O(n log²n d).
    """
    n, wanted = rows.shape[0], list(wanted)
    if n > UNROLLED:
        return list(_blockwise(rows, lambda ascending: jnp.stack([ascending[rank] for rank in wanted])))
    return _written_out(rows, tuple(wanted))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _written_out(rows: Array, wanted: tuple[int, ...]) -> list[Array]:
    n = rows.shape[0]
    values = [_nan_last(rows[i]) for i in range(n)]
    for low, high in network(n, wanted):
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


def over_columns(rows: Array, reduce: Callable[[list[Array] | Array], Array]) -> Array:
    """`reduce` of the sorted columns of `rows` `[n, d]`, `[d]`; NaN counts as +inf. Cost: O(n log²n d).

    `reduce` gets the ascending values as a list of n arrays `[d]`, which XLA fuses with the sorting into one pass; for
    many rows as an array `[n, width]`, some columns at a time. The sorted matrix is never there as a whole.
    """
    n = rows.shape[0]
    return reduce(sorted_rows(rows, range(n))) if n <= UNROLLED else _blockwise(rows, reduce)


def sorted_columns(matrix: Array) -> Array:
    """`matrix` `[n, d]` with each column ascending, where a reduction would need all of it; NaN counts as +inf.

    By XLA's sort while that is fast, and quicker to compile than a network that is written out.
    """
    return jnp.sort(matrix, axis=0) if len(matrix) <= UNROLLED else _blockwise(matrix, lambda ascending: ascending)


def middle(values: Sequence[Array] | Array, kind: Median) -> Array:
    """The median of ascending `values`: of an even number the `lower`, the `upper`, or the mean (`mid`) of the two."""
    low, high = (len(values) - 1) // 2, len(values) // 2
    if kind == "mid" and low < high:
        return 0.5 * values[low] + 0.5 * values[high]  # halves first: the sum of two large values would overflow
    return values[high if kind == "upper" else low]


def mean_between(ascending: list[Array] | Array, low: Array | int, high: Array | int) -> Array:
    """The mean of `ascending[low:high]` of each column; what lies outside is never added. The bounds may be traced."""
    n = len(ascending)
    if isinstance(low, int) and isinstance(high, int):
        return _mean(ascending[low:high], high - low)
    if isinstance(ascending, list):
        kept = [(rank >= low) & (rank < high) for rank in range(n)]
        return _mean([jnp.where(keep, value, 0) for keep, value in zip(kept, ascending, strict=True)], high - low)
    ranks = jnp.arange(n)[:, None]
    return _mean(jnp.where((ranks >= low) & (ranks < high), ascending, 0), high - low)


def mean_of_closest(
    ascending: list[Array] | Array, dropped: int, centre: Array, size: Array | int | None = None
) -> Array:
    """The mean of all but `dropped` of the `ascending` values, those closest to the `centre` of each column, `[d]`.

    Of two values equally far from the centre the smaller is kept. `size`: only so many of the values are there, the
    first ones (it may be traced).
    """
    n = len(ascending)
    count = (n if size is None else size) - dropped
    # The values closest to the centre are neighbours in sorted order. The window starts after value k exactly if
    # value k + count is closer, so one comparison for each dropped value tells who is in, without a second sort.
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
    """Per column of `rows` `[n, d]` the mean of all but `dropped` values, those closest to its median, `[d]`."""
    return over_columns(rows, lambda ascending: mean_of_closest(ascending, dropped, middle(ascending, kind)))


def _mean(values: list[Array] | Array, count: Array | int) -> Array:
    """The sum of `values` over `count`, in a power of two in which it cannot overflow."""
    shrink = power_of_share(len(values), values[0].dtype)
    if isinstance(values, list):
        total = values[0] * shrink
        for value in values[1:]:
            total = total + value * shrink
    else:
        # a product: XLA on CPU takes many times as long to sum over the leading axis
        total = jnp.matmul(jnp.broadcast_to(shrink, len(values)), values, precision=lax.Precision.HIGHEST)
    return total / (count * shrink)


def network(n: int, wanted: Iterable[int]) -> list[tuple[int, int]]:
    """Comparators (low, high) of Batcher's odd-even merge sort of n values that the `wanted` ranks depend on.

    Batcher, AFIPS 1968; written for a power of two. Values beyond n stand for +inf, which no comparator moves, so
    theirs are left out.
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
    return jnp.where(jnp.isnan(values), jnp.inf, values)  # minimum and maximum would spread a NaN over its column


def _blockwise(rows: Array, reduce: Callable[[Array], Array]) -> Array:
    """`reduce` `[n, width] -> [..., width]` of the sorted columns, some at a time: compile time hardly grows with n."""
    n, d = rows.shape
    width = min(BLOCK, d)
    padding = jnp.full(((1 << (n - 1).bit_length()) - n, width), jnp.inf, rows.dtype)

    def reduce_block(part: Part) -> Array:
        return reduce(bitonic(jnp.concatenate([_nan_last(part(rows)), padding]))[:n])

    return assembled(d, width, reduce_block)


def bitonic(rows: Array) -> Array:
    """`rows` `[n, d]` with each column sorted, for n a power of two; each merge starts with a mirrored comparison."""
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
