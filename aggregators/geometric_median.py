"""The geometric median: the point with the smallest sum of distances to the rows."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from aggregators.base import Aggregator, Array, Info, require, stateless, whole
from aggregators.kernels.columns import sorted_rows
from aggregators.kernels.distances import longest, pairwise, usual
from aggregators.kernels.means import pull

FAST = 4  # times as short as before: what a step of Weiszfeld must make the sum of the unit vectors
CLOSE = 16  # squared: how much closer to the point than to 0 a row may be for Weiszfeld's steps
HALVINGS = 30  # of the interval [0, LONGEST] in which a step length is searched
LONGEST = 16.0


class Scene(NamedTuple):
    """The rows as the search sees them: moved by `centre`, divided by `scale`, far ones drawn in.

    points `[n, d]` = shrink (rows - centre) / scale, and 0 for rows that are not finite.
    """

    rows: Array
    points: Array
    finite: Array  # [n]
    shrink: Array  # [n], 1 but for far rows
    scale: Array
    centre: Array  # [d]


class Descent(NamedTuple):
    """Where Weiszfeld's steps stand: the `point` `[d]` is the mean of the rows by `weights` `[n]`.

    `length`: of the sum of the unit vectors from the point before to the rows. `fast`: it is worth another step.
    """

    point: Array
    weights: Array
    length: Array
    fast: Array
    done: Array
    iterations: Array


class Search(NamedTuple):
    """Where the search stands: at `point` `[d]`, or `at_row` for good if the optimum is the row `nearest`."""

    point: Array
    nearest: Array
    at_row: Array
    done: Array
    iterations: Array


def geometric_median(n: int, f: int, *, tolerance: float = 1e-6, max_iterations: int = 100) -> Aggregator:
    """The point with the smallest sum of distances to the rows, `[n, d] -> [d]`.

        F = argmin over z of |z - x_1| + ... + |z - x_n|

    Condition: n >= 2f + 1
    Cost: O(n d) per iteration, of which 3 to 15 are usual; and O(n² d), n³ per iteration, where the first are slow
    Source: Xie et al. 2018 (Generalized Byzantine-tolerant SGD); Vardi and Zhang, PNAS 2000 (at a row)

    A true minimiser: Weiszfeld's steps as long as they get on fast, then Newton's. The sum of the n unit vectors from z
    to the rows is zero at the optimum; the search ends where its length is at most `tolerance` n (no step of z then
    improves the mean distance by more than `tolerance` times its length), or where a row is shown to be the optimum:
    the unit vectors to the other rows sum to at most the number of rows that are equal to it. float32 resolves
    tolerances down to about 1e-6, float64 down to 1e-14; a search whose steps fall below the rounding of z ends there.

    Args:
        tolerance: length of the mean unit vector (see above) at which the search ends.
        max_iterations: iterations after which the search ends in any case.

    Raises:
        ValueError: n < 1, f < 0, n < 2f + 1, tolerance <= 0 or max_iterations < 1.

    Rows with a NaN or infinite entry are left out. Where the minimiser is not unique (an even number of rows on one
    line) one of them is returned. Weights: those of the rows in the convex combination that is the minimiser,
    1/|z - x_i| each up to a common factor. Variants in circulation: 3 to 8 smoothed Weiszfeld steps from zero (RFA,
    byzfl), which need not be close to the minimiser; the medoid, the best of the rows.

    >>> import numpy as np
    >>> rule = geometric_median(n=3, f=1)
    >>> obtuse = np.array([[0, 0], [-4, 1], [3, 1]], np.float32)  # more than 120 degrees at the first row
    >>> aggregate, _, info = rule.apply(obtuse, rule.init(2))
    >>> aggregate.tolist(), info.weights.tolist()
    ([0.0, 0.0], [1.0, 0.0, 0.0])
    """
    require("geometric_median", n, f, factor=2, offset=1)
    if not tolerance > 0:
        raise ValueError(f"geometric_median needs a tolerance > 0, for instance 1e-6, got {tolerance!r}")
    whole("geometric_median", "max_iterations", max_iterations, 1)

    def minimiser(scene: Scene, squared: Array, alive: Array, steps: Array) -> tuple[Array, Array, Array]:
        rows, points, pool = scene.rows, scene.points, alive & scene.finite
        search = minimise(points, squared, pool, tolerance, max_iterations, steps)
        to_points = jnp.sqrt(jnp.sum((points - search.point) ** 2, axis=1))
        inverse = jnp.where(pool & (to_points > 0), 1 / to_points, 0)
        weights = inverse / jnp.sum(inverse)
        # One Weiszfeld step from the optimum is the optimum again, now as a convex combination of the rows.
        combined = scene.centre + scene.scale * (search.point + pull(points, weights, search.point))
        equal = pool & (squared[search.nearest] == 0)
        share = jnp.where(search.at_row, equal.astype(rows.dtype), weights * scene.shrink)
        result = jnp.where(search.at_row, rows[search.nearest], combined)
        return result, share / jnp.sum(share), search.iterations

    def aggregate(rows: Array) -> tuple[Array, Info]:
        quick = descend(rows, tolerance, max_iterations)

        def slowly(rows: Array, quick: Descent) -> tuple[Array, Array, Array]:
            scene = scene_of(rows)
            return minimiser(scene, squared_between(scene), jnp.ones(n, bool), quick.iterations)

        def at_once(rows: Array, quick: Descent) -> tuple[Array, Array, Array]:
            return quick.point, quick.weights, quick.iterations

        result, weights, iterations = lax.cond(quick.done, at_once, slowly, rows, quick)
        return result, Info(weights, iterations)

    def among(rows: Array):
        scene = scene_of(rows)
        squared = squared_between(scene)
        return lambda alive: minimiser(scene, squared, alive, jnp.asarray(0))[0]

    return stateless(n, aggregate, among)


def descend(rows: Array, tolerance: float, max_iterations: int) -> Descent:
    """Weiszfeld's steps from the mean, two passes over the `rows` each, as long as they get on fast.

    In many dimensions rows are nearly orthogonal as seen from the optimum, and each step makes the sum of the unit
    vectors about n times as short. Given up where a step does not make it `FAST` times as short, or where floats do
    not hold what is needed: squares that overflow or vanish, rows much closer to each other than to 0.
    """
    n, _ = rows.shape
    dtype = rows.dtype
    least = jnp.finfo(dtype).tiny / jnp.finfo(dtype).eps ** 2

    def step(descent: Descent) -> Descent:
        point = descent.point
        to_squared = jnp.sum((rows - point) ** 2, axis=1)
        reach = jnp.sum(point**2)
        # the sum of the rows minus that of the point: no digits lost where the point is not much longer
        sound = jnp.all(jnp.isfinite(to_squared) & (to_squared >= least) & (reach <= CLOSE * to_squared))
        weights = jnp.where(sound, 1 / jnp.sqrt(jnp.where(sound, to_squared, 1)), 1)
        total = jnp.sum(weights)
        mean = jnp.matmul(weights / total, rows, precision=lax.Precision.HIGHEST)
        length = total * jnp.linalg.norm(mean - point)
        return Descent(
            point=mean,
            weights=weights / total,
            length=length,
            fast=sound & (FAST * length < descent.length),
            done=sound & (length <= tolerance * n),
            iterations=descent.iterations + 1,
        )

    def going_on(descent: Descent) -> Array:
        return descent.fast & ~descent.done & (descent.iterations < max_iterations)

    first = Descent(
        point=jnp.matmul(jnp.full(n, 1 / n, dtype), rows, precision=lax.Precision.HIGHEST),
        weights=jnp.zeros(n, dtype),
        length=jnp.asarray(jnp.inf, dtype),
        fast=jnp.asarray(True),
        done=jnp.asarray(False),
        iterations=jnp.asarray(0),
    )
    return lax.while_loop(going_on, step, first)


def scene_of(rows: Array) -> Scene:
    """Rows around their coordinate-wise median, in units of their usual distance from it, if most are not there.

    A row at 1e30 pulls with a unit vector like any other, but its square overflows. It is drawn in to a distance at
    which moving it farther would not change a float.
    """
    (centre,) = sorted_rows(rows, [(len(rows) - 1) // 2])
    centre = lax.optimization_barrier(centre)  # else XLA fuses the median into its uses and computes it for each row
    radii = longest(rows, lambda columns, part: columns - part(centre))
    finite = jnp.isfinite(radii)
    common = usual(radii, finite)
    scale = jnp.where(finite.any() & (common > 0), common, 1)
    shrink = jnp.minimum(1, 16 * scale / (jnp.finfo(rows.dtype).eps * jnp.where(finite, radii, 1)))
    shrink = jnp.where(finite & (radii > 0), shrink, 1)
    points = jnp.where(finite[:, None], (rows - centre) * (shrink / scale)[:, None], 0)
    return Scene(rows, points, finite, shrink, scale, centre)


def squared_between(scene: Scene) -> Array:
    """`[n, n]`: the squared distances between the points."""
    squared, _, unit = pairwise(scene.points)
    return squared * unit**2


def minimise(points: Array, squared: Array, pool: Array, tolerance: float, max_iterations: int, steps: Array) -> Search:
    """Newton's method with exact line search for the sum of distances from a point to the `points` in the `pool`.

    `steps`: how many were taken before, of at most `max_iterations`.
    """
    n = points.shape[0]
    count = jnp.sum(pool)
    rounding = jnp.finfo(points.dtype).eps

    def is_optimal(row: Array) -> Array:
        # Vardi and Zhang: the other rows cannot pull harder than the rows that lie here hold.
        inverse = jnp.where(pool & (squared[row] > 0), 1 / jnp.sqrt(squared[row]), 0)
        others = jnp.linalg.norm(pull(points, inverse, points[row]))
        return others <= jnp.sum(pool & (squared[row] == 0)) + tolerance * count

    def newton(gradient: Array, point: Array, to_squared: Array, inverse: Array) -> Array:
        # The Hessian is a I - sum of u u' / r over the unit vectors u. By Woodbury its inverse needs an n by n system
        # only, whose entries are cosines between the u: known from the distances, without a pass over the d columns.
        a = jnp.sum(inverse)
        cosines = 0.5 * (to_squared[:, None] + to_squared[None, :] - squared) * inverse[:, None] * inverse[None, :]
        cosines = jnp.where(jnp.eye(n, dtype=bool), inverse > 0, jnp.clip(cosines, -1, 1))
        root = jnp.sqrt(inverse)
        along = root * inverse * (points @ gradient - point @ gradient)
        solved = jnp.linalg.solve(a * jnp.eye(n, dtype=points.dtype) - root[:, None] * cosines * root[None, :], along)
        return -(gradient + pull(points, root * solved * inverse, point)) / a

    def step(search: Search) -> Search:
        point = search.point
        to_squared = jnp.sum((points - point) ** 2, axis=1)
        nearest = jnp.argmin(jnp.where(pool, to_squared, jnp.inf))
        at_row = is_optimal(nearest)

        inverse = jnp.where(pool & (to_squared > 0), 1 / jnp.sqrt(to_squared), 0)
        gradient = -pull(points, inverse, point)
        on_a_row = jnp.any(pool & (to_squared == 0))
        certified = ~on_a_row & (jnp.linalg.norm(gradient) <= tolerance * count)

        steepest = -gradient / jnp.sum(inverse)
        direction = newton(gradient, point, to_squared, inverse)
        usable = ~on_a_row & (
            direction @ gradient < 0
        )  # false for NaN, where rows on one line make the system singular
        direction = jnp.where(usable, direction, steepest)

        # Along a line every distance is the root of a parabola, so the search for the step length costs O(n) a try.
        length_squared = direction @ direction
        slopes = point @ direction - points @ direction

        def halve(_: int, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bounds
            t = 0.5 * (low + high)
            distance = jnp.sqrt(jnp.maximum(to_squared + t * (2 * slopes + t * length_squared), 0))
            rising = jnp.where(pool & (distance > 0), (slopes + t * length_squared) / distance, 0)
            downhill = jnp.sum(rising) < 0
            return jnp.where(downhill, t, low), jnp.where(downhill, high, t)

        interval = jnp.zeros_like(length_squared), jnp.full_like(length_squared, LONGEST)
        low, high = lax.fori_loop(0, HALVINGS, halve, interval)
        moved = point + 0.5 * (low + high) * direction
        stalled = jnp.linalg.norm(moved - point) <= rounding * jnp.linalg.norm(point)
        done = at_row | certified | (stalled & ~on_a_row)
        return Search(jnp.where(done, point, moved), nearest, at_row, done, search.iterations + 1)

    def unfinished(search: Search) -> Array:
        return ~search.done & (search.iterations < max_iterations)

    nowhere, never = jnp.asarray(0), jnp.asarray(False)
    return lax.while_loop(unfinished, step, Search(jnp.zeros_like(points[0]), nowhere, never, never, steps))
