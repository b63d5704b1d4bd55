"""Lengths of rows, right at any scale."""

import jax
import jax.numpy as jnp

from aggregators.kernels.distances import exponents, longest, power

Array = jax.Array


def norms(rows: Array) -> Array:
    """`[n]` lengths of `rows` `[n, d]`; +inf for a row with a NaN or infinite entry. Squares never overflow."""
    radius = longest(rows)
    exponent = exponents(jnp.where(jnp.isfinite(radius), radius, 0))
    scaled = rows * power(-exponent, rows.dtype)[:, None]
    length = jnp.sqrt(jnp.sum(scaled * scaled, axis=1)) * power(exponent, rows.dtype)
    return jnp.where(jnp.isfinite(radius), length, jnp.inf)


def shortened(rows: Array, lengths: Array, bound: Array | float) -> Array:
    """`rows` `[n, d]` of these `lengths` `[n]`, each no longer than `bound`; a row that is not finite becomes 0."""
    factor = jnp.where(lengths > bound, bound / lengths, 1)
    return jnp.where(jnp.isfinite(lengths)[:, None], rows * factor[:, None], 0)
