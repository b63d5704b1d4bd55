"""The largest eigenvalue, and the subset of rows for whose covariance it is smallest, all from distances between rows.

Centred within a subset S of m rows, -1/2 the squared distances are the products of its rows around their mean, and
their largest eigenvalue is m times that of the covariance: an m by m matrix, whatever d.
"""

from functools import partial
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from byzax.aggregators.kernels.distances import Distances

Array = jax.Array

CHUNK = 4096  # subsets bounded at a time
EXACT = 32  # subsets whose eigenvalues are computed at a time
STEPS = 16  # of the power method for a bound
FAR = 1e30  # a squared distance that no subset can have if there is one without
LARGE = 400  # rows from which Lanczos' steps take less time than all eigenvectors
ROUND = 32  # of these steps between two looks at what they have found
MOST = 192  # of these steps before all eigenvectors are computed after all
CONVERGED = 8  # times the spacing of numbers and the largest eigenvalue: the residual of its vector


def least_spread_subset(apart: Distances, size: int) -> Array:
    """The rows for whose covariance the largest eigenvalue is smallest. Cost: O(C(n, size) n²).

    Every subset is looked at, but few closely: any vector's Rayleigh quotient is at most the largest eigenvalue, so
    that a few steps of the power method for all subsets at once, one matrix product each, bound it from below. Exact
    eigenvalues follow from the smallest bound upwards, until the next bound is above the best of them.

    Args:
        apart: The distances between n rows.
        size: Number of rows of the subset.

    Returns:
        `[n]`, true for the rows of the subset.
    """
    squared, n = apart.squared, apart.squared.shape[0]
    dtype, count = squared.dtype, comb(n, size)
    both = apart.finite[:, None] & apart.finite[None, :]
    halves = 0.5 * jnp.where(both, jnp.minimum(squared, FAR), jnp.where(jnp.eye(n, dtype=bool), 0, 100 * FAR))
    chunk = min(CHUNK, count)
    # any vector gives a bound
    start = jnp.asarray(np.random.default_rng(0).normal(size=n), dtype)

    spread = jnp.linalg.eigvalsh(centred_products(jnp.ones((1, n), bool), halves))[0]
    least = jnp.maximum(spread[min(1, n - 1)] - n * jnp.finfo(dtype).eps * spread[-1], 0)  # spread[0] is that of 1..1

    def centred(vectors: Array, masks: Array) -> Array:
        return masks * (vectors - jnp.sum(masks * vectors, axis=1, keepdims=True) / size)

    def bound(number: Array) -> Array:
        masks = unrank_subsets(jnp.minimum(number * chunk + jnp.arange(chunk), count - 1), n, size).astype(dtype)

        def products(vectors: Array) -> Array:
            return -jnp.matmul(vectors, halves, precision=lax.Precision.HIGHEST)

        # The mean eigenvalue is no larger than the largest, the least of all rows no larger than that of a subset:
        # seen from the middle of the two the largest stands out as far as it can be known to.
        mean = jnp.sum(masks * jnp.matmul(masks, halves, precision=lax.Precision.HIGHEST), axis=1)
        middle = 0.5 * (least + mean / (size * max(size - 1, 1)))[:, None]

        def step(_: int, vectors: Array) -> Array:
            # centred again: what rounding adds along 1..1 would grow
            vectors = centred(products(vectors) - middle * vectors, masks)
            return vectors / jnp.maximum(jnp.max(jnp.abs(vectors), axis=1, keepdims=True), jnp.finfo(dtype).tiny)

        vectors = lax.fori_loop(0, STEPS, step, centred(start, masks))
        length = jnp.sum(vectors * vectors, axis=1)
        return jnp.sum(vectors * centred(products(vectors), masks), axis=1) / jnp.where(length > 0, length, 1)

    bounds = lax.map(bound, jnp.arange(-(-count // chunk))).reshape(-1)[:count]
    # what rounding may have added must not exclude a subset
    bounds = jnp.pad(bounds * (1 - n * jnp.finfo(dtype).eps), (0, -count % EXACT), constant_values=jnp.inf)
    order = jnp.argsort(bounds, stable=True)

    def promising(state: tuple[Array, Array, Array]) -> Array:
        position, smallest, _ = state
        return (position < count) & (bounds[order[jnp.minimum(position, count - 1)]] <= smallest)

    def look_closer(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        position, smallest, best = state
        index = lax.dynamic_slice(order, [position], [EXACT])
        masks = unrank_subsets(jnp.minimum(index, count - 1), n, size)
        largest = jnp.where(index < count, jnp.linalg.eigvalsh(centred_products(masks, halves))[:, -1], jnp.inf)
        found = jnp.min(largest)
        first = jnp.min(jnp.where(largest == found, index, count)).astype(best.dtype)
        best = jnp.where(found < smallest, first, jnp.where(found == smallest, jnp.minimum(first, best), best))
        return position + EXACT, jnp.minimum(found, smallest), best

    nothing = jnp.asarray(0), jnp.asarray(jnp.inf, dtype), jnp.asarray(count - 1)
    _, _, best = lax.while_loop(promising, look_closer, nothing)
    return unrank_subsets(best[None], n, size)[0]


def leading_eigenpair(matrix: Array) -> tuple[Array, Array]:
    """The largest eigenvalue and its vector. Cost: O(n²) for each product, else O(n³).

    Many rows by Lanczos' method with every vector made orthogonal to all before it, 50 to 100 products with a vector
    for rows that are noise and fewer where one direction stands out; where the residual is not small after `MOST`, and
    for few rows, from all eigenvectors.

    Args:
        matrix: `[n, n]`, symmetric without a negative eigenvalue.

    Returns:
        The eigenvalue `[]`, and its vector `[n]` of length 1.
    """
    n, dtype = len(matrix), matrix.dtype

    def whole(_: Array) -> tuple[Array, Array]:
        values, vectors = jnp.linalg.eigh(matrix)
        return values[-1], vectors[:, -1]

    if n < LARGE:
        return whole(matrix)
    tiny = jnp.finfo(dtype).tiny
    product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)

    def step(k: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        basis, diagonal, beside = state
        new = product(matrix, basis[k])
        along = product(basis, new)
        new = new - product(along, basis)
        before = jnp.sqrt(jnp.sum(new**2))
        new = new - product(product(basis, new), basis)
        # what is nearly all taken away a second time is rounding: no direction is left
        length = jnp.sqrt(jnp.sum(new**2))
        length = jnp.where(length > 0.5 * before, length, 0)
        new = jnp.where(length > 0, new / jnp.maximum(length, tiny), 0)
        return basis.at[k + 1].set(new), diagonal.at[k].set(along[k]), beside.at[k].set(length)

    def some_steps(state: tuple) -> tuple:
        done, (basis, diagonal, beside), _, _ = state
        basis, diagonal, beside = lax.fori_loop(done, done + ROUND, step, (basis, diagonal, beside))
        done = done + ROUND
        inside = jnp.where(jnp.arange(1, MOST) < done, beside[:-1], 0)  # 0 beyond: 0 is no larger eigenvalue
        values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(inside, 1) + jnp.diag(inside, -1))
        residual = beside[done - 1] * jnp.abs(vectors[done - 1, -1])
        vector = product(vectors[:, -1], basis[:-1])
        found = values[-1], vector / jnp.maximum(jnp.sqrt(jnp.sum(vector**2)), tiny)
        return done, (basis, diagonal, beside), found, residual <= CONVERGED * jnp.finfo(dtype).eps * values[-1]

    first = np.random.default_rng(0).normal(size=n)
    basis = jnp.zeros((MOST + 1, n), dtype).at[0].set(jnp.asarray(first / np.linalg.norm(first), dtype))
    nothing = jnp.zeros((), dtype), jnp.zeros(n, dtype)
    start = jnp.asarray(0), (basis, jnp.zeros(MOST, dtype), jnp.zeros(MOST, dtype)), nothing, jnp.asarray(False)
    _, _, found, converged = lax.while_loop(lambda state: (state[0] < MOST) & ~state[3], some_steps, start)
    return lax.cond(converged, lambda _: found, whole, matrix)


def centred_products(masks: Array, halves: Array) -> Array:
    """The products of the rows of subsets around their mean.

    Args:
        masks: `[k, n]`, the subsets.
        halves: `[n, n]`, half the squared distances between the rows.

    Returns:
        `[k, n, n]`, 0 for other rows.
    """
    both = masks[:, :, None] & masks[:, None, :]
    size = jnp.sum(masks, axis=1)[:, None]
    inside = jnp.where(both, halves, 0)
    means = jnp.sum(inside, axis=2) / size
    total = jnp.sum(means, axis=1, keepdims=True) / size
    return jnp.where(both, means[:, :, None] + means[:, None, :] - inside - total[:, :, None], 0)


def unrank_subsets(ranks: Array, n: int, size: int) -> Array:
    """The subsets with given places in lexicographic order.

    Args:
        ranks: `[k]`, the places.
        n: Number of indices.
        size: Number of indices in a subset.

    Returns:
        `[k, n]`, true for the indices of the subsets.
    """
    # beginning[i, k]: how many subsets of k of the indices from i on begin with i
    beginning = jnp.asarray(
        [[comb(n - i - 1, k - 1) if k else 0 for k in range(size + 1)] for i in range(n)], ranks.dtype
    )

    def decide(i: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        ranks, left, masks = state
        begins = beginning[i][left]
        taken = ranks < begins
        return jnp.where(taken, ranks, ranks - begins), left - taken, masks.at[:, i].set(taken)

    state = ranks, jnp.full_like(ranks, size), jnp.zeros((len(ranks), n), bool)
    return lax.fori_loop(0, n, decide, state)[2]
