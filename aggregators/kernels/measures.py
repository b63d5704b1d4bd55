"""Measures of rows for rules over slices of the coordinates: distances, lengths, and points with the same products."""

import jax
import jax.numpy as jnp

from byzax.aggregators.kernels.blocks import Part, block_width, fold_blocks
from byzax.aggregators.kernels.clipping import Lengths, half_norms, joined_lengths, measure_lengths
from byzax.aggregators.kernels.distances import (
    Distances,
    joined_distances,
    pairwise_distances,
    slice_distances,
    squared_distances_to,
)
from byzax.aggregators.kernels.sharding import Exchange, Quantity

Array = jax.Array


def distances_between(rows: Array) -> Exchange:
    """Asks for the distances between rows: `Distances`.

    Args:
        rows: `[n, d]`, or the slices of a server.

    Returns:
        The exchange, of n² numbers.
    """
    return Exchange(_DISTANCES, (rows,))


def _part_of_distances(rows: Array) -> Array:
    squared, exponent, radius = slice_distances(rows)
    pairs = jnp.triu_indices(len(rows), 1)
    return jnp.concatenate([squared[pairs], exponent[pairs], radius])


def _join_distances(parts: Array, rows: Array) -> Distances:
    n = len(rows)
    pairs, upper = n * (n - 1) // 2, jnp.triu_indices(n, 1)

    def matrices(values: Array) -> Array:
        half = jnp.zeros((len(parts), n, n), parts.dtype).at[:, *upper].set(values)
        return half + half.swapaxes(1, 2)

    squared, exponent = matrices(parts[:, :pairs]), matrices(parts[:, pairs : 2 * pairs])
    return joined_distances(squared, exponent, parts[:, 2 * pairs :])


def lengths_from(rows: Array, origin: Array) -> Exchange:
    """Asks for the distances of rows from a point: `Lengths`.

    Args:
        rows: `[n, d]`, or the slices of a server.
        origin: `[d]`, or its slice.

    Returns:
        The exchange, of 2n numbers.
    """
    return Exchange(_LENGTHS, (rows, origin))


def _part_of_lengths(rows: Array, origin: Array) -> Array:
    fraction, exponent, finite = measure_lengths(rows, origin)
    return jnp.concatenate([jnp.where(finite, fraction, jnp.inf), exponent.astype(fraction.dtype)])


def _join_lengths(parts: Array, rows: Array, *_: Array) -> Lengths:
    return joined_lengths(parts[:, : len(rows)], parts[:, len(rows) :])


def nearness_to(rows: Array, point: Array, itself: int | None = None) -> Exchange:
    """Asks for numbers `[n]` in the order of the distances of rows from a point, +inf where not finite.

    Args:
        rows: `[n, d]`, or the slices of a server.
        point: `[d]`, or its slice.
        itself: Index of a row that is known to be the point.

    Returns:
        The exchange, of 2n numbers.
    """
    return Exchange(
        Quantity(
            lambda rows, point: squared_distances_to(rows, point, itself),
            _part_of_lengths,
            lambda parts, *arrays: half_norms(_join_lengths(parts, *arrays)),
        ),
        (rows, point),
    )


def points_like(points: Array) -> Exchange:
    """Asks for points with the same products among each other; where all coordinates are there, for the points.

    Args:
        points: `[n, d]`, finite, of lengths whose squares are floats; or the slices of a server.

    Returns:
        The exchange, of n² numbers; its value is `[n, k]`.
    """
    return Exchange(_POINTS, (points,))


def triangle_of(points: Array) -> Array:
    """Points in n dimensions with the same products among each other, by a QR decomposition of blocks of columns.

    What it rounds away is as small, next to a point, as the spacing of numbers: the squares of a matrix of products
    would lose half of the digits.

    Args:
        points: `[n, d]`.

    Returns:
        `[n, n]`.
    """
    n, d = points.shape
    width = min(d, max(block_width(points), n))

    def add(part: Part, new: Array, upper: Array) -> Array:
        return jnp.linalg.qr(jnp.concatenate([upper, jnp.where(new, part(points), 0).T]), mode="r")[:n]

    return fold_blocks(d, width, add, jnp.zeros((n, n), points.dtype)).T


def _join_points(parts: Array, points: Array) -> Array:
    n = len(points)
    # the triangles of all slices, side by side, are points again
    return triangle_of(parts.reshape(-1, n, n).swapaxes(0, 1).reshape(n, -1))


_DISTANCES = Quantity(pairwise_distances, _part_of_distances, _join_distances)
_LENGTHS = Quantity(measure_lengths, _part_of_lengths, _join_lengths)
_POINTS = Quantity(lambda points: points, lambda points: triangle_of(points).ravel(), _join_points)
