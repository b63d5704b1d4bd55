"""Sorting each column of a matrix of few rows, without a comparison sort: networks of minimum and maximum."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array

UNROLLED = 96  # up to this many rows the network is written out: compile time grows as n log²n (0.4 s at 64 rows)
BLOCK = 512  # columns at a time for more rows: every stage of the staged network passes over a block in the cache


def sorted_rows(rows: Array, wanted: Iterable[int]) -> list[Array]:
    """The `wanted` order statistics of each column of `rows` `[n, d]`, each `[d]`; NaN counts as +inf.

    `sorted_rows(rows, [0, n - 1])` is the minimum and the maximum. Cost: O(n log²n d).
    """
    n, wanted = rows.shape[0], list(wanted)
    if n > UNROLLED:
        return _staged(rows, wanted)
    values = [_nan_last(rows[i]) for i in range(n)]
    for low, high in network(n, wanted):
        values[low], values[high] = jnp.minimum(values[low], values[high]), jnp.maximum(values[low], values[high])
    return [values[rank] for rank in wanted]


def middle(values: Sequence[Array], kind: str) -> Array:
    """The median of ascending `values`: of an even number the `lower`, the `upper`, or the mean (`mid`) of the two."""
    lower, upper = values[(len(values) - 1) // 2], values[len(values) // 2]
    if kind == "mid" and lower is not upper:
        return 0.5 * lower + 0.5 * upper  # halves first: the sum of two large values would overflow
    return upper if kind == "upper" else lower


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


def _staged(rows: Array, wanted: list[int]) -> list[Array]:
    """The same for many rows: log²n stages, each over all rows at once, so that compile time hardly grows with n."""
    n, d = rows.shape
    padding = ((0, (1 << (n - 1).bit_length()) - n), (0, -d % BLOCK))
    rows = jnp.pad(rows, padding, constant_values=jnp.inf)

    def sort_block(index: Array) -> Array:
        block = bitonic(_nan_last(lax.dynamic_slice_in_dim(rows, index * BLOCK, BLOCK, axis=1)))
        return jnp.stack([block[rank] for rank in wanted])

    blocks = lax.map(sort_block, jnp.arange(rows.shape[1] // BLOCK))  # [blocks, wanted, BLOCK]
    return list(jnp.moveaxis(blocks, 0, 1).reshape(len(wanted), -1)[:, :d])


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
