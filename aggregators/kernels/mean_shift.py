"""Mean shift with a flat kernel."""

import jax
import jax.numpy as jnp
from jax import lax

from byzax.aggregators.kernels.columns import sort_columns

Array = jax.Array

STEPS = 300  # at most; points that stop moving stop sooner
ROUNDING = 16  # times the spacing of numbers at 1, for points of that size: distances that differ by less are equal


def largest_cluster(points: Array, alive: Array) -> Array:
    """The largest cluster of a mean shift. Cost: O(n² k) for each step.

    The bandwidth is the mean over all points of the distance to the nearest half of them, itself among these. Each
    point moves to the mean of all points no farther than that until it stays. Where it ends is a peak, as high as it
    has points around; a peak no farther than the bandwidth from a higher one is none. A point belongs to the nearest
    peak, if that is no farther than the bandwidth. Of equally high peaks, and clusters, the one reached from the lowest
    index comes first.

    Args:
        points: `[n, k]`.
        alive: `[n]`, the points that count.

    Returns:
        `[n]`, true for the points of the cluster.
    """
    n, _ = points.shape
    rounding = ROUNDING * jnp.finfo(points.dtype).eps
    points = jnp.where(alive[:, None], points, 0)

    def distances(here: Array, there: Array) -> Array:
        return jnp.sqrt(jnp.sum((here[:, None] - there[None, :]) ** 2, axis=2))

    count = jnp.sum(alive)
    ascending = sort_columns(jnp.where(alive[:, None], distances(points, points), jnp.inf))
    half = ascending[jnp.maximum(count // 2, 1) - 1]
    reach = jnp.sum(jnp.where(alive, half, 0)) / jnp.maximum(count, 1) + rounding

    def around(here: Array) -> Array:
        return alive[None, :] & (distances(here, points) <= reach)

    def move(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        _, near, _, step = state
        share = near / jnp.maximum(jnp.sum(near, axis=1), 1).astype(points.dtype)[:, None]
        moved = jnp.matmul(share, points, precision=lax.Precision.HIGHEST)
        following = around(moved)
        return moved, following, jnp.any(following != near), step + 1

    start = points, around(points), jnp.asarray(True), jnp.asarray(0)
    peaks, near, _, _ = lax.while_loop(lambda state: state[2] & (state[3] < STEPS), move, start)

    highest_first = jnp.argsort(-jnp.sum(jnp.where(alive[:, None], near, False), axis=1), stable=True)
    peaks, real = peaks[highest_first], alive[highest_first]
    close = distances(peaks, peaks) <= reach

    def keep(place: Array, kept: Array) -> Array:
        return kept.at[place].set(real[place] & ~jnp.any(kept & close[place]))

    kept = lax.fori_loop(0, n, keep, jnp.zeros(n, bool))
    to_peaks = jnp.where(kept[None, :], distances(points, peaks), jnp.inf)
    nearest = jnp.min(to_peaks, axis=1)
    own = jnp.argmax(to_peaks <= nearest[:, None] + rounding, axis=1)
    member = (own[:, None] == jnp.arange(n)[None, :]) & (alive & (nearest <= reach))[:, None]
    return member[:, jnp.argmax(jnp.sum(member, axis=0))]
