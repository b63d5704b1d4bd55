"""Against spectral filters (own): a shift that is orthogonal to the direction in which honest rows differ most."""

import jax
import jax.numpy as jnp

from byzax.attacks.base import Array, Attack, Positive, View, check, honest_mean, num_rows, stateless
from byzax.options import checked


@checked
def spectral(n: int, f: int, *, margin: Positive = 0.95) -> Attack:
    """All Byzantine rows are moved against the mean, orthogonal to where honest rows differ most and less than that.

    A filter that drops the rows which stand out along the first singular direction then looks along the honest rows'
    own, where the Byzantine rows are in the middle: it drops honest rows only.

    Formula: mean + gamma p, p = -mean without its part along v_1, of length 1; the largest gamma for which v_1, first
        singular direction of the honest rows, is that of all rows: gamma² h b / n = 1 / p^T (s_1 I - S)^-1 p
    Knows: all honest rows

    S is the scatter of the h honest rows around their mean, s_1 its largest eigenvalue; b Byzantine rows at one place
    add gamma² h b / n p p^T to it. It makes the inner product with the mean as small as it can be without being seen,
    if the filter looks at all coordinates; on some of them, drawn at random, about so.

    Args:
        n: Number of workers.
        f: Number of Byzantine workers among them.
        margin: gamma in shares of the largest.

    Returns:
        The attack, which forges rows.

    Raises:
        PartError: Unless 0 <= f <= n.
        OptionError: For an option out of its range.

    References:
        byzax's own, against Shejwalkar and Houmansadr, NDSS 2021, algorithm 2 (dnc); no paper is known to us
    """
    check("spectral", n, f)

    def make_row(key: Array, view: View) -> Array:
        mean = honest_mean(view)
        centred = jnp.where(view.known[:, None], view.rows.astype(mean.dtype) - mean, 0)
        exact = jax.lax.Precision.HIGHEST
        # in the order of size; the eigenvectors of the products of rows give those of the scatter
        values, vectors = jnp.linalg.eigh(jnp.matmul(centred, centred.T, precision=exact))
        values = jnp.maximum(values, 0)
        first = values[-1]
        nonzero = values > 1e-6 * first
        roots = jnp.sqrt(jnp.where(nonzero, values, 1))

        def project(vector: Array) -> Array:
            """The parts of a vector along all singular directions, 0 where the rows have none."""
            along = jnp.matmul(jnp.matmul(centred, vector, precision=exact), vectors, precision=exact)
            return jnp.where(nonzero, along / roots, 0)

        top = jnp.where(first > 0, jnp.matmul(vectors[:, -1], centred, precision=exact) / roots[-1], 0)
        p = -mean + jnp.vdot(mean, top) * top
        size = jnp.linalg.norm(p)
        p = p / jnp.where(size > 0, size, 1)
        parts = jnp.square(project(p))[:-1]
        gaps = first - values[:-1]
        resolvent = jnp.where(parts > 0, parts / gaps, 0).sum() + jnp.maximum(1 - parts.sum(), 0) / first
        known, num_byzantine = view.known.sum(), view.byzantine.sum()
        rows = num_rows(view)
        num_honest = rows - num_byzantine
        # what some honest rows show is taken for all of them
        squared = num_honest / jnp.maximum(known, 1) / resolvent * rows / (num_honest * num_byzantine)
        gamma = margin * jnp.sqrt(jnp.where(jnp.isfinite(squared), squared, 0))
        return mean + gamma * p

    return stateless(make_row, least_known=2, reads_own=False)
