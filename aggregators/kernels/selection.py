"""Order statistics of the columns of many rows, by bisection on the bits of the numbers, which sorts nothing."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from byzax.aggregators.kernels.blocks import map_blocks
from byzax.aggregators.kernels.means import power_of_two_share

Array = jax.Array

FEW = 8  # values that are counted up one by one before a bisection is begun
BLOCK = 128  # columns at a time on a CPU: the halves of their keys stay in its second cache


class Bits(NamedTuple):
    """The whole numbers by which floating-point numbers are compared.

    Attributes:
        whole: The type of as many bits.
        half: The type of half as many.
        width: Bits of a half.
    """

    whole: Any
    half: Any
    width: int


def _bits_of(dtype: Any) -> Bits:
    return Bits(jnp.int64, jnp.int32, 32) if jnp.finfo(dtype).bits == 64 else Bits(jnp.int32, jnp.int16, 16)


def _keys_of(rows: Array) -> Array:
    """Whole numbers in the order of floating-point numbers; NaN counts as +inf."""
    whole = _bits_of(rows.dtype).whole
    bits = lax.bitcast_convert_type(jnp.where(jnp.isnan(rows), jnp.inf, rows), whole)
    # of negative numbers larger bits are smaller numbers
    return jnp.where(bits < 0, bits ^ jnp.iinfo(whole).max, bits)


def _values_of(keys: Array, dtype: Any) -> Array:
    return lax.bitcast_convert_type(jnp.where(keys < 0, keys ^ jnp.iinfo(keys.dtype).max, keys), dtype)


def _halfway(low: Array, high: Array) -> Array:
    """(low + high) / 2 rounded down, which never overflows."""
    return (low & high) + ((low ^ high) >> 1)


def _bisect(values: Array, rank: Array | int, counted: Any) -> Array:
    """The value of a rank in each column, by counting.

    Args:
        values: `[n, w]`, whole numbers.
        rank: `[w]` or one for all, 0 for the least value.
        counted: The type in which values are counted.

    Returns:
        `[w]`.
    """

    def narrower(ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = _halfway(low, high)
        below = rank < jnp.sum(values <= middle, axis=0, dtype=counted)
        return jnp.where(below, low, middle + 1), jnp.where(below, middle, high)

    return lax.while_loop(lambda ends: (ends[0] < ends[1]).any(), narrower, (values.min(axis=0), values.max(axis=0)))[0]


def _count_up(values: Array, rank: Array, counted: Any) -> Array:
    """The value of a rank in each column, counted from the least one up, where it is one of the first few different.

    Args:
        values: `[n, w]`, whole numbers.
        rank: `[w]`, 0 for the least value.
        counted: The type in which values are counted.

    Returns:
        `[w]`.
    """
    most = jnp.iinfo(values.dtype).max

    def next_value(found: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        steps, present, done = found
        done |= rank < jnp.sum(values <= present, axis=0, dtype=counted)
        after = jnp.min(jnp.where(values > present, values, most), axis=0)
        return steps + 1, jnp.where(done, present, after), done

    begin = jnp.zeros((), jnp.int32), values.min(axis=0), jnp.zeros(values.shape[1], bool)
    _, present, done = lax.while_loop(lambda found: (found[0] < FEW) & ~found[2].all(), next_value, begin)
    return lax.cond(done.all(), lambda: present, lambda: _bisect(values, rank, counted))


def _select(keys: Array, rank: int) -> Array:
    """The key of a rank in each column, first its upper half and then its lower one: halves are passed over faster.

    Args:
        keys: `[n, w]`, as `_keys_of` makes them.
        rank: 0 for the least one.

    Returns:
        `[w]`.
    """
    bits = _bits_of(jnp.float32 if keys.dtype == jnp.int32 else jnp.float64)
    counted = bits.half if len(keys) <= jnp.iinfo(bits.half).max else jnp.int32
    upper = (keys >> bits.width).astype(bits.half)
    smallest = jnp.asarray(jnp.iinfo(bits.half).min, keys.dtype)
    lower = ((keys & ((1 << bits.width) - 1)) + smallest).astype(bits.half)
    found = _bisect(upper, rank, counted)
    before = jnp.sum(upper < found, axis=0, dtype=counted)
    # few have this upper half, unless many are nearly equal; others are beyond all that count
    rest = _count_up(
        jnp.where(upper == found, lower, jnp.iinfo(bits.half).max), (rank - before).astype(counted), counted
    )
    return (found.astype(keys.dtype) << bits.width) + (rest.astype(keys.dtype) - smallest)


def _in_blocks(rows: Array, make: Callable[[Array], Array]) -> Array:
    """`make(columns)`, `[n, w] -> [..., w]`, of all columns, some at a time on a CPU."""
    d = rows.shape[1]
    width = min(BLOCK, d) if jax.default_backend() == "cpu" else d
    return map_blocks(d, width, lambda part: make(part(rows)))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def select_ranks(rows: Array, ranks: tuple[int, ...]) -> Array:
    """Order statistics of each column. Cost: O(n d) times the bits of a number at most.

    Args:
        rows: `[n, d]`; NaN counts as +inf.
        ranks: Their ranks, 0 for the least value.

    Returns:
        `[ranks, d]`.
    """

    def select(columns: Array) -> Array:
        keys = _keys_of(columns)
        return jnp.stack([_values_of(key, rows.dtype) for key in _select_all(keys, ranks)])

    return _in_blocks(rows, select)


def _select_all(keys: Array, ranks: Sequence[int]) -> list[Array]:
    """The keys of some ranks; that of the rank after another is found by one more pass."""
    found: dict[int, Array] = {}
    for rank in sorted(ranks):
        if rank - 1 in found:
            before = found[rank - 1]
            again = jnp.sum(keys <= before, axis=0) > rank
            after = jnp.min(jnp.where(keys > before, keys, jnp.iinfo(keys.dtype).max), axis=0)
            found[rank] = jnp.where(again, before, after)
        else:
            found[rank] = _select(keys, rank)
    return [found[rank] for rank in ranks]


@select_ranks.defjvp
def _follow_rows(ranks: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The slope of an order statistic is that of the row it came from."""
    (rows,), (moved,) = primals, tangents
    return select_ranks(rows, ranks), jnp.take_along_axis(moved, _order(rows)[np.asarray(ranks)], axis=0)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def mean_between_ranks(rows: Array, low: int, high: int) -> Array:
    """The mean of the values of each column with ranks from `low` up to `high`; others are never added.

    Args:
        rows: `[n, d]`; NaN counts as +inf.
        low: First rank.
        high: Rank after the last.

    Returns:
        `[d]`.
    """
    shrink = power_of_two_share(len(rows), rows.dtype)

    def mean(columns: Array) -> Array:
        keys = _keys_of(columns)
        first, last = _select_all(keys, (low, high - 1))
        between = (first < keys) & (keys < last)
        # a product: XLA on CPU takes several times as long for a sum over the leading axis
        total = jnp.matmul(
            jnp.broadcast_to(shrink, len(rows)), jnp.where(between, columns, 0), precision=lax.Precision.HIGHEST
        )
        # of several values equal to the first or the last one some may be outside
        at_first = jnp.sum(keys <= first, axis=0) - low
        at_last = high - jnp.sum(keys < last, axis=0)
        for key, count in ((first, at_first), (last, at_last)):
            total += jnp.where(count > 0, _values_of(key, rows.dtype) * (shrink * count.astype(rows.dtype)), 0)
        return jnp.where(first == last, _values_of(first, rows.dtype), total / ((high - low) * shrink))

    return _in_blocks(rows, mean)


@mean_between_ranks.defjvp
def _follow_kept_rows(low: int, high: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (rows,), (moved,) = primals, tangents
    kept = jnp.take_along_axis(moved, _order(rows)[low:high], axis=0)
    return mean_between_ranks(rows, low, high), kept.mean(axis=0)


def _order(rows: Array) -> Array:
    return jnp.argsort(jnp.where(jnp.isnan(rows), jnp.inf, rows), axis=0)
