"""Some columns of a matrix at a time, so that what is made of them stays in the cache and is never there as a whole."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Part = Callable[[Array], Array]  # the columns of a block, from an array [..., d]
Carry = TypeVar("Carry")

ENTRIES = 2**18  # of a block of a matrix: a megabyte


def width_for(rows: Array) -> int:
    """The number of columns of `rows` `[n, d]` are `ENTRIES`."""
    n, d = rows.shape
    return min(d, max(1, ENTRIES // n))


def fold(d: int, width: int, step: Callable[[Part, Array, Carry], Carry], start: Carry) -> Carry:
    """`step(part, new, carry)` from block to block of `width` of the `d` columns.

    The last block begins within the one before: `new` `[width]` tells which columns no other block has.
    """

    def next_block(number: Array, carry: Carry) -> Carry:
        first = jnp.minimum(number * width, d - width)
        new = first + jnp.arange(width) >= number * width
        return step(lambda array: lax.dynamic_slice_in_dim(array, first, width, axis=-1), new, carry)

    return lax.fori_loop(0, -(-d // width), next_block, start)


def assembled(d: int, width: int, make: Callable[[Part], Array]) -> Array:
    """`[..., d]` from `make(part)` `[..., width]` of each block."""

    def place(number: Array, whole: Array) -> Array:
        first = jnp.minimum(number * width, d - width)
        made = make(lambda array: lax.dynamic_slice_in_dim(array, first, width, axis=-1))
        return lax.dynamic_update_slice_in_dim(whole, made, first, axis=-1)

    shape = jax.eval_shape(lambda: make(lambda array: array[..., :width]))
    return lax.fori_loop(0, -(-d // width), place, jnp.zeros((*shape.shape[:-1], d), shape.dtype))
