"""Aside of the direction in which a spectral filter looks."""

import jax
import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, View, check, count_of, honest_mean, stateless


def spectral(n: int, f: int, *, margin: float = 0.95) -> Attack:
    """All Byzantine rows are moved against the mean, orthogonal to where honest rows differ most and less than that.

    A filter that drops the rows which stand out along the first singular direction then looks along the honest rows'
    own, where the liars are in the middle: it drops honest rows only.

    Formula: mean + gamma p, p = -mean without its part along v_1, of length 1; the largest gamma for which v_1, first
        singular direction of the honest rows, is that of all rows: gamma² h b / n = 1 / p^T (s_1 I - S)^-1 p
    Knows: all honest rows
    Source: byzax's own, against Shejwalkar and Houmansadr, NDSS 2021, algorithm 2 (dnc); no paper is known to us

    S is the scatter of the h honest rows around their mean, s_1 its largest eigenvalue; b liars at one place add
    gamma² h b / n p p^T to it. It makes the inner product with the mean as small as it can be without being seen, if
    the filter looks at all coordinates; on some of them, drawn at random, about so.

    Args:
        margin: gamma in shares of the largest.

    Raises:
        ValueError: unless 0 <= f <= n and margin > 0.
    """
    check("spectral", n, f)
    if not margin > 0:
        raise ValueError(f"spectral needs margin > 0, got {margin}")

    def forged(key: Array, view: View) -> Array:
        mean = honest_mean(view)
        centred = jnp.where(view.known[:, None], view.rows.astype(mean.dtype) - mean, 0)
        exact = jax.lax.Precision.HIGHEST
        # in the order of size; the eigenvectors of the products of rows give those of the scatter
        values, vectors = jnp.linalg.eigh(jnp.matmul(centred, centred.T, precision=exact))
        values = jnp.maximum(values, 0)
        first = values[-1]
        there = values > 1e-6 * first
        roots = jnp.sqrt(jnp.where(there, values, 1))

        def shares(vector: Array) -> Array:
            """Its parts along all singular directions, 0 where the rows have none."""
            along = jnp.matmul(jnp.matmul(centred, vector, precision=exact), vectors, precision=exact)
            return jnp.where(there, along / roots, 0)

        top = jnp.where(first > 0, jnp.matmul(vectors[:, -1], centred, precision=exact) / roots[-1], 0)
        aside = -mean + jnp.vdot(mean, top) * top
        size = jnp.linalg.norm(aside)
        aside = aside / jnp.where(size > 0, size, 1)
        parts = jnp.square(shares(aside))[:-1]
        gaps = first - values[:-1]
        resolvent = jnp.where(parts > 0, parts / gaps, 0).sum() + jnp.maximum(1 - parts.sum(), 0) / first
        known, liars = view.known.sum(), view.byzantine.sum()
        rows = count_of(view)
        honest = rows - liars
        # what some honest rows show is taken for all of them
        squared = honest / jnp.maximum(known, 1) / resolvent * rows / (honest * liars)
        gamma = margin * jnp.sqrt(jnp.where(jnp.isfinite(squared), squared, 0))
        return mean + gamma * aside

    return stateless(forged)
