"""PowerSGD (Vogels et al. 2019): every matrix of parameters as a product of two thin ones."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from byzax.options import checked
from byzax.simulator.transforms._error_feedback import with_error_feedback
from byzax.simulator.transforms.base import Array, Count, Shapes, State, Transform, WireKeys, scale_of, size


class PowersgdMessage(NamedTuple):
    """A message of powersgd.

    Attributes:
        left: The matrices P `[a, r]`, with orthonormal columns.
        right: The matrices Q `[b, r]`.
        whole: `[m]`, the parameters that are sent as they are.
    """

    left: tuple[Array, ...]
    right: tuple[Array, ...]
    whole: Array


@checked
def powersgd(shapes: Shapes, *, rank: Count = 2, error_feedback: bool = False) -> Transform:
    """Sends every matrix of parameters as a product of rank r, by one power iteration that begins where the last ended.

    Formula: C(M) = P Q', P = M Q made orthonormal, Q = M' P, for each matrix M; Q is that of the last message
    Bits: 32 r (a + b) for each a x b matrix; 32 for each other parameter
    Error: |C(v) - v|² <= |v|²; contractive in practice, with error feedback

    An array of more axes is the matrix of its last axis against all others. Vectors, and matrices for which P and Q
    would be no smaller, are sent as they are. Q begins with normal numbers, the same at every sender. In the paper P
    and Q are summed over all workers, which gives the compressed mean of their matrices; here each sender has its own,
    as rules over single rows need. Where a column of Q would be 0 or not finite, the one before stays.

    Args:
        shapes: The shapes of the model's parameters.
        rank: Number of columns of P and Q, r.
        error_feedback: Whether what is left out is added to the next message, as the paper does.

    Returns:
        The transform.

    Raises:
        PartError: For a model without parameters, or with more than 125,000,000.
        OptionError: For an option out of its range.

    References:
        Vogels, Karimireddy and Jaggi, NeurIPS 2019, "PowerSGD", algorithms 1 and 2
    """
    d = size("powersgd", shapes)
    bounds, matrices, kept = [0], [], []
    for shape in shapes:
        begin, count = bounds[-1], math.prod(shape)
        bounds.append(begin + count)
        a, b = (count // shape[-1], shape[-1]) if len(shape) > 1 and count else (0, 0)
        if rank * (a + b) < a * b:
            matrices.append((begin, a, b))
        else:
            kept.append(slice(begin, begin + count))
    bits = 32 * sum(rank * (a + b) for _, a, b in matrices) + 32 * sum(each.stop - each.start for each in kept)

    def encode(keys: WireKeys, vector: Array, last: State) -> tuple[PowersgdMessage, State]:
        left, right, after = [], [], []
        for (begin, a, b), q in zip(matrices, last, strict=True):
            matrix = vector[begin : begin + a * b].reshape(a, b)
            p = _orthonormal((matrix / scale_of(matrix)) @ q)
            new = matrix.T @ p
            left.append(p)
            right.append(new)
            lengths = jnp.sqrt(jnp.sum((new / scale_of(new)) ** 2, axis=0))
            usable = jnp.isfinite(lengths) & (lengths > 0)
            unit = new / scale_of(new) / jnp.where(usable, lengths, 1)
            after.append(jnp.where(usable, unit, q))
        whole = jnp.concatenate([vector[each] for each in kept] or [vector[:0]])
        return PowersgdMessage(tuple(left), tuple(right), whole), tuple(after)

    def decode(keys: WireKeys, message: PowersgdMessage, state: State) -> tuple[Array, State]:
        vector = jnp.zeros(d, jnp.float32)
        for (begin, a, b), p, q in zip(matrices, message.left, message.right, strict=True):
            vector = vector.at[begin : begin + a * b].set((p @ q.T).reshape(a * b))
        begin = 0
        for each in kept:
            end = begin + each.stop - each.start
            vector = vector.at[each].set(message.whole[begin:end])
            begin = end
        return vector, state

    def init() -> State:
        keys = jax.random.split(jax.random.key(0), max(1, len(matrices)))
        return tuple(jax.random.normal(key, (b, rank)) for key, (_, _, b) in zip(keys, matrices, strict=False))

    made = Transform(encode, decode, lambda message: jnp.asarray(bits, jnp.uint32), init)
    return with_error_feedback(made, d, error_feedback)


def _orthonormal(columns: Array) -> Array:
    """Columns of length 1 at right angles, by Gram and Schmidt, twice; a column that the others span becomes 0."""
    found: list[Array] = []
    for i in range(columns.shape[1]):
        column = _unit(columns[:, i])
        for _ in range(2):
            for other in found:
                column = column - jnp.sum(other * column) * other
            # what is left of a column that the others span is rounding
            column = _unit(jnp.where(jnp.sum(column**2) < 1e-10, 0, column))
        found.append(column)
    return jnp.stack(found, axis=1)


def _unit(column: Array) -> Array:
    """A column divided by its length; zeros stay zeros."""
    column = column / scale_of(column)
    length = jnp.sqrt(jnp.sum(column**2))
    return column / jnp.where(length == 0, 1, length)
