"""Loops over blocks of columns: what is made of a block stays in the cache, and the whole is never there at once."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Part = Callable[[Array], Array]  # the columns of a block, from an array [..., d]
Carry = TypeVar("Carry")

ENTRIES = 2**18  # of a block of a matrix: a megabyte


def block_width(rows: Array) -> int:
    """The number of columns of which a block has `ENTRIES`.

    Args:
        rows: `[n, d]`.

    Returns:
        1 to d.
    """
    n, d = rows.shape
    return min(d, max(1, ENTRIES // n))


def fold_blocks(d: int, width: int, step: Callable[[Part, Array, Carry], Carry], start: Carry) -> Carry:
    """Folds a function over blocks of columns.

    Args:
        d: Number of columns.
        width: Number of columns of a block.
        step: `step(part, new, carry)` gives the next carry; `part` takes the columns of the block out of an array, and
            `new` `[width]` tells which columns no other block has, since the last block begins within the one before.
        start: The first carry.

    Returns:
        The last carry.
    """

    def next_block(number: Array, carry: Carry) -> Carry:
        first = jnp.minimum(number * width, d - width)
        new = first + jnp.arange(width) >= number * width
        return step(lambda array: lax.dynamic_slice_in_dim(array, first, width, axis=-1), new, carry)

    return lax.fori_loop(0, -(-d // width), next_block, start)


def map_blocks(d: int, width: int, make: Callable[[Part], Array]) -> Array:
    """Maps a function over blocks of columns.

    Args:
        d: Number of columns.
        width: Number of columns of a block.
        make: `make(part)` gives `[..., width]`; `part` takes the columns of the block out of an array.

    Returns:
        `[..., d]`.
    """

    def place(number: Array, whole: Array) -> Array:
        first = jnp.minimum(number * width, d - width)
        made = make(lambda array: lax.dynamic_slice_in_dim(array, first, width, axis=-1))
        return lax.dynamic_update_slice_in_dim(whole, made, first, axis=-1)

    shape = jax.eval_shape(lambda: make(lambda array: array[..., :width]))
    return lax.fori_loop(0, -(-d // width), place, jnp.zeros((*shape.shape[:-1], d), shape.dtype))
