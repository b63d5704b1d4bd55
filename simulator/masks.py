"""Secure aggregation: rows as whole numbers modulo 2^b, under masks of pairs of workers that cancel in a sum."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


class FixedPoint(NamedTuple):
    """Numbers as multiples of a step, modulo 2^b.

    Attributes:
        bits: b.
        step: The step, a power of two: the smallest with which sums do not leave the range of b bits.
        limit: The largest number, in steps.
    """

    bits: int
    step: float
    limit: int


def fixed_point(bits: int, largest: float, members: int) -> FixedPoint:
    """The fixed point of rows.

    Args:
        bits: b.
        largest: The largest absolute value of a number.
        members: The most rows in a sum.

    Returns:
        The fixed point.

    Raises:
        ValueError: Where b bits do not hold a sum of so many numbers, or the step is no float32.
    """
    most = (2 ** (bits - 1) - 1) // members
    if most < 1:
        raise ValueError(f"{bits} bits hold no sum of {members} rows: take more bits, or more groups")
    least, greatest = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    if not least < largest / most <= largest < greatest:
        raise ValueError(f"numbers up to {largest:g} in {bits} bits have steps that are no float32")
    step = 2.0 ** math.ceil(math.log2(largest / most))
    return FixedPoint(bits, step, round(largest / step))


def encode(rows: Array, point: FixedPoint) -> Array:
    """Rows in fixed point: the nearest step, ties to even, cut to the largest number; 0 for NaN.

    Args:
        rows: `[..., d]`, float32.
        point: The fixed point.

    Returns:
        `[..., d]`, uint32 below 2^b; of negative numbers the complement.
    """
    steps = jnp.clip(jnp.round(jnp.nan_to_num(rows / point.step, nan=0.0)), -(2.0**30), 2.0**30)
    # as whole numbers, since the limit may have no float32
    whole = jnp.clip(steps.astype(jnp.int32), -point.limit, point.limit)
    return _modulo(whole.astype(jnp.uint32), point.bits)


def decode(total: Array, point: FixedPoint) -> Array:
    """The numbers that fixed-point ones stand for.

    Args:
        total: `[..., d]`, uint32 below 2^b.
        point: The fixed point.

    Returns:
        `[..., d]`, float32.
    """
    unused = 32 - point.bits
    signed = jax.lax.shift_right_arithmetic(jax.lax.bitcast_convert_type(total << unused, jnp.int32), jnp.int32(unused))
    return signed.astype(jnp.float32) * point.step


def pairs_of(n: int, groups: int) -> np.ndarray:
    """The pairs of workers that agree on a seed.

    Args:
        n: Number of workers.
        groups: Number of groups; worker i is in group i mod `groups`.

    Returns:
        `[K, 2]`, the smaller number first.
    """
    found = [(i, j) for i in range(n) for j in range(i + groups, n, groups)]
    return np.array(found, np.int32).reshape(-1, 2)


def mask_rows(encoded: Array, key: Array, pairs: np.ndarray, bits: int) -> Array:
    """The messages of all workers: of each pair one adds the mask that the other one takes away.

    Args:
        encoded: `[n, d]`, uint32.
        key: Key of the round, from which the seed of each pair is derived.
        pairs: `[K, 2]`, as `pairs_of` gives them.
        bits: b.

    Returns:
        `[n, d]`, uint32 below 2^b.

    References:
        Bonawitz et al., CCS 2017, "Practical secure aggregation for privacy-preserving machine learning", section 4
    """
    chosen = jnp.asarray(pairs)

    def add(number: Array, masked: Array) -> Array:
        one, other = chosen[number]
        mask = _mask(key, one, other, encoded.shape[1:])
        return masked.at[one].add(mask).at[other].add(-mask)

    return _modulo(jax.lax.fori_loop(0, len(pairs), add, encoded), bits)


def sum_groups(masked: Array, there: Array, key: Array, pairs: np.ndarray, groups: int, bits: int) -> Array:
    """The sums of the rows that are there, without the masks that their senders share with workers whose are not.

    Args:
        masked: `[n, d]`, as `mask_rows` gives them.
        there: `[n]`, whether a row arrived; others are not read.
        key: Key of the round.
        pairs: `[K, 2]`, as `pairs_of` gives them.
        groups: Number of groups.
        bits: b.

    Returns:
        `[groups, d]`, uint32 below 2^b.
    """
    chosen = jnp.asarray(pairs)
    received = jnp.where(there[:, None], masked, jnp.uint32(0))
    sums = jax.ops.segment_sum(received, jnp.arange(len(masked)) % groups, groups)
    if not len(pairs):
        # rows without masks
        return _modulo(sums, bits)

    def recover(number: Array, sums: Array) -> Array:
        one, other = chosen[number]
        mask = jnp.where(there[one] != there[other], _mask(key, one, other, masked.shape[1:]), jnp.uint32(0))
        return sums.at[one % groups].add(jnp.where(there[one], -mask, mask))

    # nobody reveals a seed where all rows are there
    dropped = jnp.where(there.all(), 0, len(pairs))
    return _modulo(jax.lax.fori_loop(0, dropped, recover, sums), bits)


def _mask(key: Array, one: Array, other: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, one), other), shape, jnp.uint32)


def _modulo(values: Array, bits: int) -> Array:
    return values & jnp.uint32(2**bits - 1)
