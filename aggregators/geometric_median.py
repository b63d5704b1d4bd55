"""The geometric median (Xie et al. 2018): the point with the smallest sum of distances to the rows."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import lax

from byzax.aggregators.base import (
    AggregateAlive,
    Aggregator,
    Array,
    Count,
    Info,
    Iterations,
    LeastRows,
    Positive,
    require,
    stateless,
)
from byzax.aggregators.kernels.clipping import Lengths, clipped_weighted_mean, half_norms, measure_lengths
from byzax.aggregators.kernels.distances import pairwise_distances
from byzax.aggregators.kernels.means import mean_of, sum_of_differences
from byzax.aggregators.kernels.measures import lengths_from, points_like
from byzax.aggregators.kernels.normalised import NormalisedRows, normalise, squared_distances
from byzax.aggregators.kernels.sharding import Steps, on_whole, without_state
from byzax.options import OptionError, checked

Start = Literal["zero", "mean"]
FAST = 4  # times as short as before: what a step of Weiszfeld must make the sum of the unit vectors
SLOW_STEPS = 40  # in the weights; where they do not suffice the optimum is next to a row, and Newton's are better
CLOSE = 16  # squared: how much closer to the point than to 0 a row may be for Weiszfeld's steps
HALVINGS = 30  # of the interval [0, LONGEST] in which a step length is searched
LONGEST = 16.0


class WeiszfeldState(NamedTuple):
    """The state of Weiszfeld's steps.

    Attributes:
        point: `[d]`, the mean of the rows by `weights`.
        weights: `[n]`.
        length: Of the sum of the unit vectors from the point before to the rows.
        fast: Whether the last step shortened that sum enough for another step.
        done: Whether the sum is short enough.
        iterations: Number of steps so far.
    """

    point: Array
    weights: Array
    length: Array
    fast: Array
    done: Array
    iterations: Array


class NewtonState(NamedTuple):
    """The state of Newton's steps.

    Attributes:
        point: `[d]`.
        nearest: Index of the row nearest to it.
        at_row: Whether the optimum is that row.
        done: Whether the search has ended.
        iterations: Number of steps so far, those of Weiszfeld among them.
    """

    point: Array
    nearest: Array
    at_row: Array
    done: Array
    iterations: Array


@checked
def geometric_median(
    n: int,
    f: int,
    *,
    tolerance: Positive = 1e-6,
    max_iterations: Count = 100,
    nu: Positive | None = None,
    iterations: Iterations = 8,
    start: Start = "zero",
) -> Aggregator:
    """The point with the smallest sum of distances to the rows, `[n, d] -> [d]`.

        F = argmin over z of |z - x_1| + ... + |z - x_n|

    Condition: n >= 2f + 1
    Cost: O(n d) per iteration, of which 3 to 15 are usual; and O(n² d), n³ per iteration, where the first are slow

    A true minimiser: Weiszfeld's steps as long as they get on fast, then Newton's. The sum of the n unit vectors from z
    to the rows is zero at the optimum; the search ends where its length is at most `tolerance` n (no step of z then
    improves the mean distance by more than `tolerance` times its length), or where a row is shown to be the optimum:
    the unit vectors to the other rows sum to at most the number of rows that are equal to it. float32 resolves
    tolerances down to about 1e-6, float64 down to 1e-14; a search whose steps fall below the rounding of z ends there.

    With `nu` it is no minimiser but what most codes compute, smoothed Weiszfeld steps, O(n d) each:

        z <- sum of w_i x_i / sum of w_i,  w_i = 1 / max(nu, |x_i - z|),  `iterations` times from `start`

    Where they end depends on the start and on the unit of the rows. From the mean one far row is left behind by a
    factor of about n in each step only. Nothing is proven here of a few of them.

    Rows with a NaN or infinite entry are left out. Where the minimiser is not unique (an even number of rows on one
    line) one of them is returned. Another variant in circulation is the best of the rows, `medoid`.

    Args:
        n: Number of rows.
        f: Number of rows that may be Byzantine.
        tolerance: Length of the mean unit vector (see above) at which the search ends; without `nu`.
        max_iterations: Number of iterations after which the search ends in any case; without `nu`.
        nu: Smallest distance that counts, in the unit of the rows. None: the minimiser, in which there are no
            `iterations` and no `start`.
        iterations: Number of smoothed steps, with `nu`.
        start: Of the smoothed steps, with `nu`: the origin (`zero`) or the `mean` of the rows. Codes in circulation: nu
            0.1, 8 steps from zero (Karimireddy et al. 2022), 3 of them (Karimireddy et al. 2021, byzfl); nu 1e-6, up to
            100 steps from the mean (blades).

    Returns:
        The rule. Weights: those of the rows in the convex combination that is the answer, 1/|z - x_i| each up to a
        common factor, or w_i.

    Raises:
        PartError: For f < 0, or n < 2f + 1.
        OptionError: For tolerance <= 0, max_iterations < 1, nu <= 0, iterations outside 1..1000, a start that is none
            of those named, or an option of one way with the other.

    Example:
        >>> import numpy as np
        >>> rule = geometric_median(n=3, f=1)
        >>> obtuse = np.array([[0, 0], [-4, 1], [3, 1]], np.float32)  # more than 120 degrees at the first row
        >>> aggregate, _, info = rule.apply(obtuse, rule.init(2))
        >>> aggregate.tolist(), info.weights.tolist()
        ([0.0, 0.0], [1.0, 0.0, 0.0])

    References:
        Xie et al. 2018 (Generalized Byzantine-tolerant SGD); Vardi and Zhang, PNAS 2000 (at a row)
    """
    least_rows = require("geometric_median", n, f, factor=2, offset=1)
    if nu is not None:
        for option, value, default in (("tolerance", tolerance, 1e-6), ("max_iterations", max_iterations, 100)):
            if value != default:
                raise OptionError(option, f"must be left out with nu: it is an option of the minimiser, got {value}")
        return _build_smoothed(n, nu, iterations, start, least_rows)
    for option, value, default in (("iterations", iterations, 8), ("start", start, "zero")):
        if value != default:
            needs_nu = "must be left out, or nu given, such as 0.1: it is an option of the smoothed steps"
            raise OptionError(option, f"{needs_nu}, got {value!r}")

    def minimiser(
        normalised: NormalisedRows, alike: Array, squared: Array, alive: Array, steps: Array
    ) -> tuple[Array, Array, Array]:
        rows, points, pool = normalised.rows, normalised.points, alive & normalised.finite
        search = minimise(alike, squared, pool, tolerance, max_iterations, steps)
        to_points = jnp.sqrt(jnp.sum((alike - search.point) ** 2, axis=1))
        inverse = jnp.where(pool & (to_points > 0), 1 / to_points, 0)
        weights = inverse / jnp.sum(inverse)
        # one Weiszfeld step from the optimum is the optimum again, now as a convex combination of the rows
        point = search.point if alike is points else jnp.matmul(weights, points, precision=lax.Precision.HIGHEST)
        combined = normalised.centre + normalised.scale * (point + sum_of_differences(points, weights, point))
        equal = pool & (squared[search.nearest] == 0)
        share = jnp.where(search.at_row, equal.astype(rows.dtype), weights * normalised.shrink)
        result = jnp.where(search.at_row, rows[search.nearest], combined)
        return result, share / jnp.sum(share), search.iterations

    def surely(rows: Array, steps: Array) -> Steps[tuple[Array, Array, Array]]:
        normalised = yield from normalise(rows)
        # of slices no vector is there whole: others stand for them, in n dimensions
        alike = yield points_like(normalised.points)
        squared = squared_distances(normalised._replace(points=alike))
        return minimiser(normalised, alike, squared, jnp.ones(n, bool), steps)

    def of_slice(rows: Array) -> Steps[tuple[Array, Info]]:
        result, weights, taken = yield from surely(rows, jnp.asarray(0))
        return result, Info(weights, taken)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        quick = descend(rows, jnp.full(n, 1 / n, rows.dtype), jnp.asarray(0), tolerance, max_iterations)

        def at_once(rows: Array, quick: WeiszfeldState, _: Array) -> tuple[Array, Array, Array]:
            return quick.point, quick.weights, quick.iterations

        def search(rows: Array, quick: WeiszfeldState, _: Array) -> tuple[Array, Array, Array]:
            return on_whole(surely(rows, quick.iterations))

        def at_row(rows: Array, quick: WeiszfeldState, equal: Array) -> tuple[Array, Array, Array]:
            return rows[jnp.argmax(equal)], equal / jnp.sum(equal), quick.iterations

        def by_weights(rows: Array, quick: WeiszfeldState, equal: Array) -> tuple[Array, Array, Array]:
            weights = descend_in_weights(rows, quick.weights, tolerance)
            closer = descend(rows, weights, quick.iterations, tolerance, max_iterations)
            return lax.cond(closer.done, at_once, search, rows, closer, equal)

        def slowly(rows: Array, quick: WeiszfeldState, _: Array) -> tuple[Array, Array, Array]:
            equal, optimal = nearest_optimum(rows, quick.point, tolerance)
            way = jnp.where(optimal, 0, jnp.where(jnp.isfinite(quick.length), 1, 2))
            return lax.switch(way, (at_row, by_weights, search), rows, quick, equal)

        result, weights, taken = lax.cond(quick.done, at_once, slowly, rows, quick, quick.weights)
        return result, Info(weights, taken)

    def among(rows: Array) -> AggregateAlive:
        normalised = on_whole(normalise(rows))
        squared = squared_distances(normalised)
        return lambda alive: minimiser(normalised, normalised.points, squared, alive, jnp.asarray(0))[0]

    rule = stateless(n, aggregate, among, linear=True, least_rows=least_rows)
    return rule._replace(sharded=without_state(of_slice, 2))


def _build_smoothed(n: int, nu: float, iterations: int, start: Start, least_rows: LeastRows) -> Aggregator:
    """The rule of so many smoothed Weiszfeld steps."""

    def first_point(rows: Array, counted: Array) -> Array:
        origin = jnp.zeros_like(rows[0])
        return origin if start == "zero" else jnp.where(counted.any(), mean_of(rows, counted)[0], origin)

    def move(rows: Array, point: Array, lengths: Lengths, counted: Array) -> tuple[Array, Array]:
        # a common factor leaves the weights as they are: that which makes the largest of them 1
        nearest = jnp.min(jnp.where(counted, half_norms(lengths), jnp.inf))
        bound = jnp.maximum(jnp.asarray(0.5 * nu, rows.dtype), jnp.where(counted.any(), nearest, 0))
        return clipped_weighted_mean(rows, point, lengths, bound, counted)

    def descent(rows: Array, alive: Array) -> tuple[Array, Array]:
        counted = alive & measure_lengths(rows, jnp.zeros_like(rows[0])).finite

        def step(_: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
            return move(rows, state[0], measure_lengths(rows, state[0]), counted)

        return lax.fori_loop(0, iterations, step, (first_point(rows, counted), jnp.zeros(n, rows.dtype)))

    def of_slice(rows: Array) -> Steps[tuple[Array, Info]]:
        lengths = yield lengths_from(rows, jnp.zeros_like(rows[0]))
        counted, weights = lengths.finite, jnp.zeros(n, rows.dtype)
        point = first_point(rows, counted)
        for number in range(iterations):
            if number or start == "mean":
                lengths = yield lengths_from(rows, point)
            point, weights = move(rows, point, lengths, counted)
        return point, Info(weights)

    def aggregate(rows: Array) -> tuple[Array, Info]:
        result, weights = descent(rows, jnp.ones(n, bool))
        return result, Info(weights)

    def among(rows: Array) -> AggregateAlive:
        return lambda alive: descent(rows, alive)[0]

    rule = stateless(n, aggregate, among, linear=True, least_rows=least_rows)
    return rule._replace(sharded=without_state(of_slice, iterations + (start == "mean")))


def descend(rows: Array, weights: Array, steps: Array, tolerance: float, max_iterations: int) -> WeiszfeldState:
    """Weiszfeld's steps, two passes over the rows each, as long as they get on fast.

    In many dimensions rows are nearly orthogonal as seen from the optimum, and each step makes the sum of the unit
    vectors about n times as short. The descent ends where a step does not make it `FAST` times as short, or where
    floats do not hold what is needed: squares that overflow or vanish, rows much closer to each other than to 0.

    Args:
        rows: `[n, d]`.
        weights: `[n]`, those of the rows in the first point.
        steps: Number of steps that were taken before.
        tolerance: Length of the mean unit vector at which the descent is done.
        max_iterations: Largest number of steps, those taken before among them.

    Returns:
        The last state; its point is an answer where it is `done`. Its length is +inf where floats do not hold it.
    """
    n, _ = rows.shape

    def step(descent: WeiszfeldState) -> WeiszfeldState:
        point = descent.point
        to_squared = jnp.sum((rows - point) ** 2, axis=1)
        sound = jnp.all(_sound(to_squared, point))
        weights = jnp.where(sound, 1 / jnp.sqrt(jnp.where(sound, to_squared, 1)), 1)
        total = jnp.sum(weights)
        mean = jnp.matmul(weights / total, rows, precision=lax.Precision.HIGHEST)
        length = jnp.where(sound, total * jnp.linalg.norm(mean - point), jnp.inf)
        return WeiszfeldState(
            point=mean,
            weights=weights / total,
            length=length,
            fast=sound & (FAST * length < descent.length),
            done=sound & (length <= tolerance * n),
            iterations=descent.iterations + 1,
        )

    def going_on(descent: WeiszfeldState) -> Array:
        return descent.fast & ~descent.done & (descent.iterations < max_iterations)

    first = WeiszfeldState(
        point=jnp.matmul(weights, rows, precision=lax.Precision.HIGHEST),
        weights=jnp.zeros_like(weights),
        length=jnp.asarray(jnp.inf, rows.dtype),
        fast=jnp.asarray(True),
        done=jnp.asarray(False),
        iterations=steps,
    )
    return lax.while_loop(going_on, step, first)


def descend_in_weights(rows: Array, weights: Array, tolerance: float) -> Array:
    """Weiszfeld's steps in the weights of the rows, where they are slow: O(n²) each once distances are known.

        |x_i - z|² = sum_j w_j D_ij - 1/2 sum_jk w_j w_k D_jk,  D_ij = |x_i - x_j|²,  z = sum_j w_j x_j

    Args:
        rows: `[n, d]`.
        weights: `[n]`, those of the first point.
        tolerance: As of `descend`; the steps end at a part of it, or after `SLOW_STEPS`.

    Returns:
        The weights `[n]`. What they are worth is for a step over the rows to say.
    """
    n = len(rows)
    squared = pairwise_distances(rows).squared

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        weights, _, steps = state
        apart = jnp.matmul(squared, weights, precision=lax.Precision.HIGHEST)
        to_squared = apart - 0.5 * jnp.sum(weights * apart)
        inverse = jnp.where(to_squared > 0, 1 / jnp.sqrt(jnp.where(to_squared > 0, to_squared, 1)), 0)
        total = jnp.sum(inverse)
        moved = inverse / total - weights
        way = -0.5 * jnp.sum(moved * jnp.matmul(squared, moved, precision=lax.Precision.HIGHEST))
        return weights + moved, total * jnp.sqrt(jnp.maximum(way, 0)), steps + 1

    def going_on(state: tuple[Array, Array, Array]) -> Array:
        _, length, steps = state
        return (FAST**2 * length > tolerance * n) & (steps < SLOW_STEPS)

    return lax.while_loop(going_on, step, (weights, jnp.asarray(jnp.inf, rows.dtype), jnp.asarray(0)))[0]


def nearest_optimum(rows: Array, point: Array, tolerance: float) -> tuple[Array, Array]:
    """Looks whether the row nearest to a point is the minimiser, as where many rows are equal; three passes over them.

    Args:
        rows: `[n, d]`.
        point: `[d]`.
        tolerance: As of `descend`.

    Returns:
        The rows equal to the nearest one `[n]`, 1 or 0 in the type of the rows, and whether it is the minimiser `[]`:
        never where floats do not hold what is needed.
    """
    n = len(rows)
    row = rows[jnp.argmin(jnp.sum((rows - point) ** 2, axis=1))]
    equal = jnp.all(rows == row, axis=1)
    to_squared = jnp.sum((rows - row) ** 2, axis=1)
    sound = jnp.all(equal | _sound(to_squared, row))
    inverse = jnp.where(sound & ~equal, 1 / jnp.sqrt(jnp.where(equal, 1, to_squared)), 0)
    # Vardi and Zhang: the unit vectors to the other rows sum to no more than the number of rows that lie here
    others = jnp.matmul(inverse, rows, precision=lax.Precision.HIGHEST) - jnp.sum(inverse) * row
    bound = jnp.sum(equal) + tolerance * n
    return equal.astype(rows.dtype), sound & (jnp.linalg.norm(others) <= bound)


def _sound(to_squared: Array, point: Array) -> Array:
    """Squared distances `[n]` to a point that neither overflowed nor vanished, from rows not too close to it."""
    limits = jnp.finfo(to_squared.dtype)
    least = limits.tiny / limits.eps**2
    # the sum of the rows minus that of the point: no digits lost where the point is not much longer
    return jnp.isfinite(to_squared) & (to_squared >= least) & (jnp.sum(point**2) <= CLOSE * to_squared)


def minimise(
    points: Array, squared: Array, pool: Array, tolerance: float, max_iterations: int, steps: Array
) -> NewtonState:
    """Newton's method with exact line search for the sum of distances to points.

    Args:
        points: `[n, d]`.
        squared: `[n, n]`, the squared distances between them.
        pool: `[n]`, which of them count.
        tolerance: Length of the mean unit vector at which the search ends.
        max_iterations: Largest number of steps, those taken before among them.
        steps: Number of steps that were taken before.

    Returns:
        The last state.
    """
    n = points.shape[0]
    count = jnp.sum(pool)
    rounding = jnp.finfo(points.dtype).eps

    def is_optimal(row: Array) -> Array:
        # Vardi and Zhang: the unit vectors to the other rows sum to no more than the number of rows that lie here
        inverse = jnp.where(pool & (squared[row] > 0), 1 / jnp.sqrt(squared[row]), 0)
        others = jnp.linalg.norm(sum_of_differences(points, inverse, points[row]))
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
        return -(gradient + sum_of_differences(points, root * solved * inverse, point)) / a

    def step(search: NewtonState) -> NewtonState:
        point = search.point
        to_squared = jnp.sum((points - point) ** 2, axis=1)
        nearest = jnp.argmin(jnp.where(pool, to_squared, jnp.inf))
        at_row = is_optimal(nearest)

        inverse = jnp.where(pool & (to_squared > 0), 1 / jnp.sqrt(to_squared), 0)
        gradient = -sum_of_differences(points, inverse, point)
        on_a_row = jnp.any(pool & (to_squared == 0))
        certified = ~on_a_row & (jnp.linalg.norm(gradient) <= tolerance * count)

        steepest = -gradient / jnp.sum(inverse)
        direction = newton(gradient, point, to_squared, inverse)
        # false for NaN, where rows on one line make the system singular
        usable = ~on_a_row & (direction @ gradient < 0)
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
        return NewtonState(jnp.where(done, point, moved), nearest, at_row, done, search.iterations + 1)

    def unfinished(search: NewtonState) -> Array:
        return ~search.done & (search.iterations < max_iterations)

    nowhere, never = jnp.asarray(0), jnp.asarray(False)
    return lax.while_loop(unfinished, step, NewtonState(jnp.zeros_like(points[0]), nowhere, never, never, steps))
